"""The summary of a run: computes everything that is shown from a plan and its records.

Only raw samples are stored; every number that is shown is computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, TypedDict

from benchmarks.analysis.cells import CellSummary, Measured, measure
from benchmarks.analysis.counterparts import counterpart_ratios
from benchmarks.analysis.equal_work import CellParity, parities
from benchmarks.analysis.grades import Basis, evidence_against, grade, reason_for_f
from benchmarks.analysis.latency import latency_of
from benchmarks.analysis.leaders import leaders
from benchmarks.analysis.metrics import METRICS, Metric
from benchmarks.analysis.noise import Rounds, rounds_of
from benchmarks.analysis.outcomes import Outcome, outcomes
from benchmarks.analysis.outlook import Outlook, outlook
from benchmarks.analysis.ratios import CaseRatio, compare_all, judge, shared_prior
from benchmarks.analysis.tables import block_frame, launch_frame
from benchmarks.analysis.uses import use_of
from benchmarks.analysis.utilisation import datasheet_peak, shares_of_roofs, utilisation
from benchmarks.contract.case import Case
from benchmarks.contract.evidence import FAIL, NOT_COMPARABLE
from benchmarks.contract.plan import Interpreter, Plan
from benchmarks.contract.record import PLAN_REASONS, SERIAL, Record
from benchmarks.contract.workload import WorkloadSpec


@dataclass(frozen=True)
class RunSummary:
    """Everything that is shown of a run."""

    run_id: str
    created_at: str
    """When it was planned, in ISO 8601."""
    suite: str
    protocol: str
    machine: dict[str, Any]
    interpreters: dict[str, Interpreter]
    """Those of the frameworks that were measured."""
    cells: tuple[CellSummary, ...]
    ratios: tuple[CaseRatio, ...]
    rounds: Rounds
    outlook: Outlook
    metrics: tuple[Metric, ...]
    """The metrics whose numbers the cells have."""
    is_fresh: bool = False
    """Whether no earlier run's results count."""
    costs: tuple[CaseRatio, ...] = ()
    """Libraries against what they compute with, if that is not the base of their group."""
    gains: tuple[CaseRatio, ...] = ()
    """Tuned cases against the same cases idiomatic."""
    leads: tuple[CaseRatio, ...] = ()
    """Cases against the fastest one with their base, if they may be as fast, and that is faster
    than the base."""

    @property
    def has_failures(self) -> bool:
        """Whether a cell that was launched is not ok, or its work differs from the reference."""
        return any(
            cell.status not in ("ok", "interrupted", *PLAN_REASONS) or cell.parity.status == FAIL
            for cell in self.cells
        )


def summarise(
    plan: Plan,
    records: Sequence[Record],
    specs: Mapping[str, WorkloadSpec],
    *,
    metrics: tuple[Metric, ...] = METRICS,
) -> RunSummary:
    """The summary of a plan from the records of all runs.

    A cell's records are those with its result_key; for a fresh plan only those of its own run.
    `specs` are the workloads by name, for their tolerances.
    """
    found = outcomes(plan, records)
    counted = [record for outcome in found.values() for record in outcome.records]
    cohorts = {(record.run_id, record.cohort_id) for record in counted}
    whole = [record for record in records if (record.run_id, record.cohort_id) in cohorts]
    blocks = block_frame(whole)
    launches = launch_frame(counted, blocks, {one.name: one.of for one in metrics})
    measured = {case_id: measure(outcome, launches, metrics) for case_id, outcome in found.items()}
    parity = parities(plan.bases, found, specs)
    options = _Options(
        incomparable=[one for one in found if parity[one].status == NOT_COMPARABLE],
        max_rounds=plan.protocol.max_rounds,
    )
    of_groups = compare_all(plan.bases, found, blocks, **options)
    standing = _bases(plan, found, measured, parity, of_groups)
    prior = shared_prior(one for one in of_groups if _may_stand(one, parity, standing))
    judged = judge(of_groups, prior)
    bases = _bases(plan, found, measured, parity, judged)
    ratios = tuple(_withdraw(one, parity, bases) for one in judged)

    def against(counterpart: Callable[[Case], Case | None]) -> tuple[CaseRatio, ...]:
        own = counterpart_ratios(counterpart, plan.bases, found, blocks, **options)
        return tuple(_withdraw(one, parity, bases) for one in judge(own, prior))

    cells = _cells(plan, found, measured, parity, bases=bases, ratios=ratios, specs=specs)
    undecided = {cell.case.case_id for cell in cells if cell.use == "undecided"}
    return RunSummary(
        run_id=plan.run_id,
        created_at=plan.created_at,
        suite=plan.suite,
        protocol=plan.protocol.name,
        machine=plan.machine,
        interpreters=_interpreters(plan, cells),
        cells=cells,
        ratios=ratios,
        costs=against(attrgetter("on_base")),
        gains=against(attrgetter("idiomatic")),
        leads=against(leaders(ratios, {name: one.cell.case for name, one in found.items()}).get),
        is_fresh=plan.fresh,
        rounds=rounds_of(whole, blocks),
        metrics=metrics,
        outlook=outlook(
            [one for one in ratios if one.case in undecided and not one.aa], found, plan.protocol
        ),
    )


class _Options(TypedDict):
    """The common options of all comparisons."""

    incomparable: list[str]
    max_rounds: int


def _interpreters(plan: Plan, cells: Sequence[CellSummary]) -> dict[str, Interpreter]:
    """Those of the frameworks that were measured, in the order of their cells."""
    names = dict.fromkeys(cell.case.way.framework for cell in cells if cell.measured)
    return {name: plan.interpreters[name] for name in names if name in plan.interpreters}


def _bases(
    plan: Plan,
    found: Mapping[str, Outcome],
    measured: Mapping[str, Measured | None],
    parity: Mapping[str, CellParity],
    ratios: Sequence[CaseRatio],
) -> dict[str, Basis]:
    """The facts for the grade of each case_id that has numbers."""
    own = {one.case: one for one in ratios}
    checks = {one.base: one.contains_one for one in ratios if one.aa}
    bases = {}
    for case_id, numbers in measured.items():
        if numbers is None:
            continue
        comparison = own.get(case_id)
        is_compared = comparison is not None and comparison.verdict != "not_comparable"
        judged = comparison.ratio if comparison and is_compared else numbers.step_s
        bases[case_id] = Basis(
            num_launches=judged.num_launches if judged else 0,
            half_width=judged.half_width if judged else None,
            dropped_share=numbers.dropped_share,
            steady=numbers.steady,
            is_disturbed=numbers.num_rounds_disturbed > 0,
            flagged=numbers.is_flagged,
            aa_contains_one=checks.get(plan.bases.get(case_id, case_id)),
            disagrees=parity[case_id].status == FAIL,
            serial=any(record.resident == SERIAL for record in found[case_id].records),
        )
    return bases


def _cells(
    plan: Plan,
    found: Mapping[str, Outcome],
    measured: Mapping[str, Measured | None],
    parity: Mapping[str, CellParity],
    *,
    bases: Mapping[str, Basis],
    ratios: Sequence[CaseRatio],
    specs: Mapping[str, WorkloadSpec],
) -> tuple[CellSummary, ...]:
    """The cells; those with a `Basis` are graded, unless others are compared with them."""
    shares, above = shares_of_roofs(found, measured, parity)
    own = {one.case: one for one in ratios if not one.aa}
    compared_with = {one.base for one in own.values()}
    cells = []
    for case_id, outcome in found.items():
        case, numbers, is_base = outcome.cell.case, measured[case_id], case_id in compared_with
        basis = None if is_base else bases.get(case_id)
        is_shown = numbers is not None and numbers.step_s and outcome.status in ("ok", "unproven")
        spec, is_ranked = specs.get(case.work.workload), parity[case_id].is_ranked
        cells.append(
            CellSummary(
                case=case,
                status=outcome.status,
                reason=_reason(outcome, numbers),
                log=outcome.log,
                unit=outcome.records[-1].unit if outcome.records else None,
                measured=numbers,
                mfu_roof=shares.get(case_id),
                mfu_spec=utilisation(numbers, datasheet_peak(plan, case)) if is_ranked else None,
                above_roof=above.get(case_id),
                flop_convention=spec.flop_convention if spec and numbers else None,
                parity=parity[case_id],
                grade=(grade(basis) if outcome.is_ok else "F") if basis else None,
                grade_reason=reason_for_f(basis) if basis and outcome.is_ok else None,
                use=use_of(
                    case_id, own.get(case_id), is_base=is_base, bases=bases, parity=parity[case_id]
                )
                if is_shown
                else None,
                latency=latency_of(outcome.launches(), plan.protocol.percentiles),
                rewrites=outcome.cell.rewrites,
                has_own_clock=outcome.cell.has_own_clock,
            )
        )
    return tuple(cells)


def _reason(outcome: Outcome, numbers: Measured | None) -> str | None:
    """The outcome's reason, or why there is no number."""
    if outcome.reason is None and numbers is not None and numbers.step_s is None:
        return f"no valid round: {', '.join(numbers.flags) or 'none was measured'}"
    return outcome.reason


def _withdraw(
    one: CaseRatio, parity: Mapping[str, CellParity], bases: Mapping[str, Basis]
) -> CaseRatio:
    """The comparison; its verdict is withdrawn if the work is unproven, or is unreliable."""
    both = (one.base, one.case)
    if one.aa or one.verdict == "not_comparable" or _may_stand(one, parity, bases):
        return one
    is_ranked = all(parity[case_id].is_ranked for case_id in both)
    return replace(one, verdict="cant_tell" if is_ranked else "unproven")


def _may_stand(
    one: CaseRatio, parity: Mapping[str, CellParity], bases: Mapping[str, Basis]
) -> bool:
    """Whether both cases do the same work, and nothing speaks against their numbers."""
    return all(
        parity[case_id].is_ranked and not evidence_against(bases[case_id])
        for case_id in (one.base, one.case)
    )
