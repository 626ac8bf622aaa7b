"""The document of `dyno plan --json`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from benchmarks.contract.plan import Cell, Plan
from benchmarks.documents.axes import Axes, axes_of

Schema = Literal["dyno.plan/1"]
SCHEMA: Schema = "dyno.plan/1"


@dataclass(frozen=True)
class PlanCell(Axes):
    """One cell, and what the plan does about it.

    `differs` is how its mathematics differs from the workload's, null if it does not. `rewrites` is
    what a tuned case rewrites, null for an idiomatic one.
    """

    action: str
    kind: str | None
    reason: str | None
    estimate_s: float | None
    estimate_basis: str | None
    memory_bytes: int | None
    differs: str | None
    rewrites: str | None


@dataclass(frozen=True)
class Counts:
    """The number of cells with each action."""

    run: int
    have: int
    skip: int


@dataclass(frozen=True)
class PlanDocument:
    """The plan of a run."""

    schema: Schema
    run_id: str
    suite: str
    protocol: str
    cells: tuple[PlanCell, ...]
    counts: Counts
    num_groups: int
    num_cohorts: int
    estimate_s: float | None


def document(plan: Plan) -> PlanDocument:
    """The document of a plan; a missing number is null."""
    counts = Counter(cell.action for cell in plan.cells)
    return PlanDocument(
        SCHEMA,
        plan.run_id,
        plan.suite,
        plan.protocol.name,
        cells=tuple(_cell(cell) for cell in plan.cells),
        counts=Counts(counts["run"], counts["have"], counts["skip"]),
        num_groups=len({cohort.group_id for cohort in plan.cohorts}),
        num_cohorts=len(plan.cohorts),
        estimate_s=plan.estimate_s,
    )


def _cell(cell: Cell) -> PlanCell:
    return PlanCell(
        **axes_of(cell.case),
        action=cell.action,
        kind=cell.kind,
        reason=cell.reason,
        estimate_s=cell.estimate_s,
        estimate_basis=cell.estimate_basis,
        memory_bytes=cell.memory_bytes,
        differs=cell.differs,
        rewrites=cell.rewrites,
    )
