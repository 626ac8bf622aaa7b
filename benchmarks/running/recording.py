"""Makes the record of a launch that has ended."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.contract.case import Case
from benchmarks.contract.device import is_host
from benchmarks.contract.evidence import FAIL, UNPROVEN
from benchmarks.contract.plan import CohortPlan, LaunchPlan, Plan
from benchmarks.contract.protocol import PROTOCOL_VERSION
from benchmarks.contract.record import Record
from benchmarks.host.peak import impossible, peak_flop_per_s
from benchmarks.planning.catalog import Catalog
from benchmarks.running.accounting import too_many_threads, wrong_durations
from benchmarks.running.failure import Failure
from benchmarks.running.launch import SupervisedLaunch
from benchmarks.running.rounds import median_step_s


def record_of(
    plan: Plan, catalog: Catalog, cohort: CohortPlan, launch: LaunchPlan, live: SupervisedLaunch
) -> Record:
    """The record of a launch that is no longer alive."""
    case = live.launch.case
    spec = catalog.workloads[case.work.workload].spec
    flop_per_step = spec.flop_per_step(case.work)
    failure = (
        live.failure
        or contradiction(catalog, live)
        or _suspicion(plan, case, live, flop_per_step)
        or _unproven(live)
    )
    ready, finished = live.ready, live.finished
    return Record(
        run_id=plan.run_id,
        cohort_id=cohort.cohort_id,
        launch_id=live.launch_id,
        case=case,
        replica=launch.replica,
        result_key=str(plan.cell(case.case_id).result_key),
        protocol_name=plan.protocol.name,
        protocol_version=PROTOCOL_VERSION,
        status=failure.status if failure else "ok",
        reason=failure.reason if failure else None,
        phase=failure.phase if failure else None,
        started_at=live.started_at,
        unit=spec.unit,
        items_per_step=spec.items_per_step(case.work),
        flop_per_step=flop_per_step,
        log=f"logs/{live.launch_id}.log",
        phases_s=live.phases_s,
        first_steps_ns=ready.first_steps_ns if ready else (),
        cold_cache=ready.cold_cache if ready else None,
        warmup_ns=ready.warmup_ns if ready else (),
        steady=ready.steady if ready else None,
        blocks=tuple(live.blocks),
        evidence=live.evidence,
        peak_memory_bytes=finished.peak_memory_bytes if finished else None,
        peak_memory_source=finished.peak_memory_source if finished else None,
        settings=ready.settings if ready else {"asked": asdict(live.launch.settings)},
        environment={
            "machine": plan.machine,
            "interpreter": asdict(plan.interpreters[case.way.framework]),
            "exporters": {name: asdict(plan.interpreters[name]) for name in live.launch.exporters},
            "variables": catalog.frameworks[case.way.framework].environment(live.launch.settings),
        },
        resident=cohort.resident,
        look=cohort.look,
    )


def contradiction(catalog: Catalog, live: SupervisedLaunch) -> Failure | None:
    """A failure if the launch's report does not fit what we saw of it ourselves."""
    case, settings = live.launch.case, live.launch.settings
    spec = catalog.workloads[case.work.workload].spec
    if not catalog.frameworks[case.way.framework].capabilities.has_own_clock:
        prepares = spec.task.prepares(case.work)
        if (reason := wrong_durations(live.blocks, prepares=prepares)) is not None:
            return Failure("invalid_report", reason, "turn")
    if is_host(settings.device):
        reason = too_many_threads(live.blocks, num_threads=settings.num_threads)
        return Failure("not_placed", reason, "turn") if reason else None
    return None


def _unproven(live: SupervisedLaunch) -> Failure | None:
    """A failure if the launch's work is not proven."""
    parity = live.evidence.parity
    if parity is None:
        return None
    status = {FAIL: "invalid_work", UNPROVEN: "unproven"}.get(parity.status)
    return Failure(status, str(parity.reason), "first_step") if status else None


def _suspicion(
    plan: Plan, case: Case, live: SupervisedLaunch, flop_per_step: int
) -> Failure | None:
    """A failure if the launch's rate is above its device's peak."""
    step_s = median_step_s(live)
    if step_s is None:
        return None
    peak = peak_flop_per_s(
        plan.device_rules[case.place.device],
        precision=case.way.precision,
        num_cores=live.launch.settings.num_threads,
        accelerators=plan.machine["accelerators"],
        num_devices=case.place.num_devices,
    )
    reason = impossible(flop_per_step / step_s, peak)
    return Failure("suspect", reason, "turn") if reason else None
