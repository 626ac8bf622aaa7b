"""The summary of a run: computes everything that is shown from a plan and its records.

Only raw samples are stored; every number that is shown is computed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.cells import CellSummary, Measured, measure
from benchmarks.analysis.counterparts import counterpart_ratios
from benchmarks.analysis.equal_work import CellParity, parities
from benchmarks.analysis.grades import Basis, evidence_against, grade, reason_for_f
from benchmarks.analysis.latency import latency_of
from benchmarks.analysis.metrics import METRICS, Metric
from benchmarks.analysis.outcomes import Outcome, outcomes
from benchmarks.analysis.ratios import CaseRatio, compare_all, judge, shared_prior
from benchmarks.analysis.tables import (
    ROUND_KEY,
    RoundKey,
    block_frame,
    causes_of,
    launch_frame,
    round_of,
)
from benchmarks.analysis.utilisation import datasheet_peak, shares_of_roofs, utilisation
from benchmarks.contract.evidence import FAIL, NOT_COMPARABLE
from benchmarks.contract.plan import Plan
from benchmarks.contract.record import PLAN_REASONS, SERIAL, Record
from benchmarks.contract.workload import WorkloadSpec


@dataclass(frozen=True)
class Rounds:
    """The rounds of a run's cohorts, and their disturbances."""

    num_rounds: int
    num_dropped: int
    """Rounds that are valid for no pair."""
    num_kept: int
    """Disturbed rounds that still count, because their group has too few others."""
    causes: dict[str, int]
    """For each declared cause, the number of rounds with it."""
    max_foreign_cpu_share: float | None
    """The largest share of the CPUs that other processes took in a turn."""


@dataclass(frozen=True)
class RunSummary:
    """Everything that is shown of a run."""

    run_id: str
    protocol: str
    machine: dict[str, Any]
    cells: tuple[CellSummary, ...]
    ratios: tuple[CaseRatio, ...]
    rounds: Rounds
    metrics: tuple[Metric, ...]
    """The metrics whose numbers the cells have."""
    costs: tuple[CaseRatio, ...] = ()
    """Libraries against what they compute with, if that is not the base of their group."""
    gains: tuple[CaseRatio, ...] = ()
    """Tuned cases against the same cases idiomatic."""

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
    compared = [
        compare(
            plan.bases,
            found,
            blocks,
            incomparable=[one for one in found if parity[one].status == NOT_COMPARABLE],
            max_rounds=plan.protocol.max_rounds,
        )
        for compare in (
            compare_all,
            partial(counterpart_ratios, attrgetter("on_base")),
            partial(counterpart_ratios, attrgetter("idiomatic")),
        )
    ]
    prior = shared_prior(compared[0])
    ratios, costs, gains = (judge(one, prior) for one in compared)
    bases = _bases(plan, found, measured, parity, ratios)
    compared_with = {one.base for one in ratios if not one.aa}
    return RunSummary(
        run_id=plan.run_id,
        protocol=plan.protocol.name,
        machine=plan.machine,
        cells=_cells(
            plan,
            found,
            measured,
            parity,
            bases={name: one for name, one in bases.items() if name not in compared_with},
            specs=specs,
        ),
        ratios=tuple(_withdraw(one, parity, bases) for one in ratios),
        costs=tuple(_withdraw(one, parity, bases) for one in costs),
        gains=tuple(_withdraw(one, parity, bases) for one in gains),
        rounds=_rounds(whole, blocks),
        metrics=metrics,
    )


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
    specs: Mapping[str, WorkloadSpec],
) -> tuple[CellSummary, ...]:
    """The cells; those with a `Basis` are graded, so not those that others are compared with."""
    shares, above = shares_of_roofs(found, measured, parity)
    cells = []
    for case_id, outcome in found.items():
        case, numbers, basis = outcome.cell.case, measured[case_id], bases.get(case_id)
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
    if one.aa or one.verdict == "not_comparable":
        return one
    if not all(parity[case_id].is_ranked for case_id in both):
        return replace(one, verdict="unproven")
    if any(evidence_against(bases[case_id]) for case_id in both):
        return replace(one, verdict="cant_tell")
    return one


def _rounds(records: Sequence[Record], blocks: pd.DataFrame) -> Rounds:
    causes_by_round: dict[RoundKey, set[str]] = {}
    shares = []
    for record in records:
        for block in record.blocks:
            causes_by_round.setdefault(round_of(record, block), set()).update(causes_of(block))
            if block.foreign_cpu_share is not None:
                shares.append(block.foreign_cpu_share)
    counts = Counter(cause for causes in causes_by_round.values() for cause in causes)
    rounds = blocks.drop_duplicates(ROUND_KEY)
    return Rounds(
        num_rounds=len(causes_by_round),
        num_dropped=int(rounds["round_dropped"].sum()),
        num_kept=int((rounds["round_disturbed"] & ~rounds["round_dropped"].astype(bool)).sum()),
        causes=dict(sorted(counts.items())),
        max_foreign_cpu_share=max(shares, default=None),
    )
