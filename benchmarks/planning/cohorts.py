"""From the cells that can run to cohorts: parts that fit together, each with its base."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.contract.plan import Cell, CohortPlan, LaunchPlan
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.errors import UsageError
from benchmarks.planning.history import CohortKey, History
from benchmarks.planning.identity import cohort_seed

Fits = Callable[[Sequence[Cell]], bool]
"""Whether launches of these cells can be alive together."""


@dataclass(frozen=True)
class Part:
    """Cells of one group and precision that are alive together."""

    index: int
    """Position among the parts of the plan."""
    base: Cell
    others: tuple[Cell, ...]
    aa: bool
    """Whether the base is launched twice."""
    counts_base: bool
    """Whether the base's own number of launches is this part's to reach."""
    is_apart: bool = False
    """Whether this is one cell that did not fit beside its base, and is now its own."""


def parts_of(cells: Sequence[Cell], fits: Fits, *, aa: bool) -> list[Part]:
    """The parts of all groups, in the order of their cells.

    The base of a group's precision is its first cell. A cell that does not fit beside its base
    is a part by itself: it is measured, and compared with nothing.
    """
    families: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        families[cell.case.group_id, cell.case.way.precision].append(cell)
    parts: list[Part] = []
    for family in families.values():
        parts += _split(family, fits, first_index=len(parts), aa=aa)
    return parts


def bases_of(parts: Sequence[Part]) -> dict[str, str]:
    """For each case_id the case_id of its base; a base is its own."""
    return {
        cell.case.case_id: part.base.case.case_id
        for part in parts
        for cell in (part.base, *part.others)
    }


def num_missing(cell: Cell, part: Part, history: History, num_cohorts: int) -> int:
    """Cohorts that this cell of a part still needs; those it shared with its base count."""
    if cell is not part.base:
        return max(0, num_cohorts - len(_shared(cell, part.base, history)))
    if not part.counts_base:
        return 0
    done = history.cohorts(cell.result_key)
    if part.aa:
        done &= history.cohorts(cell.result_key, replica=1)
    return max(0, num_cohorts - len(done))


def cohorts_of(
    parts: Sequence[Part], history: History, protocol: MeasuringProtocol, run_id: str
) -> list[CohortPlan]:
    """The cohorts still to be launched; those of all parts take turns, so that drift spreads."""
    queues = [_cohorts_of_part(part, history, protocol, run_id) for part in parts]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _split(family: Sequence[Cell], fits: Fits, *, first_index: int, aa: bool) -> list[Part]:
    base, *others = family
    alone = [base, base] if aa else [base]
    if aa and not fits(alone):
        raise UsageError(
            f"protocol.aa=true: {base.case.case_id} does not fit beside itself",
            hint="see machine.memory_limit_gib and machine.max_resident, or leave aa out",
        )
    apart = [cell for cell in others if not fits([*alone, cell])]
    chunks: list[list[Cell]] = [[]]
    for cell in others:
        if cell in apart:
            continue
        if not fits([*alone, *chunks[-1], cell]):
            chunks.append([])
        chunks[-1].append(cell)
    together = [
        Part(first_index + i, base, tuple(chunk), aa=aa, counts_base=i == 0)
        for i, chunk in enumerate(chunks)
    ]
    return together + [
        Part(first_index + len(chunks) + i, cell, (), aa=False, counts_base=True, is_apart=True)
        for i, cell in enumerate(apart)
    ]


def _shared(cell: Cell, base: Cell, history: History) -> frozenset[CohortKey]:
    """The cohorts that count for a cell: its own, where its base fails and has none to share."""
    if history.has_failed(base.result_key):
        return history.cohorts(cell.result_key)
    return history.cohorts(cell.result_key) & history.cohorts(base.result_key)


def _cohorts_of_part(
    part: Part, history: History, protocol: MeasuringProtocol, run_id: str
) -> list[CohortPlan]:
    missing = {
        cell.case.case_id: num_missing(cell, part, history, protocol.num_cohorts)
        for cell in (part.base, *part.others)
    }
    base_id = part.base.case.case_id
    base = [LaunchPlan(base_id), *([LaunchPlan(base_id, replica=1)] if part.aa else [])]
    first = history.next_index(run_id, part.index)
    return [
        _cohort(
            part,
            run_id,
            index=first + turn,
            launches=(
                *base,
                *(LaunchPlan(name) for name, n in missing.items() if name != base_id and n > turn),
            ),
            protocol=protocol,
        )
        for turn in range(max(missing.values()))
    ]


def _cohort(
    part: Part,
    run_id: str,
    *,
    index: int,
    launches: tuple[LaunchPlan, ...],
    protocol: MeasuringProtocol,
) -> CohortPlan:
    group_id, precision = part.base.case.group_id, part.base.case.way.precision
    return CohortPlan(
        cohort_id=f"{run_id}/{part.index}/{index}",
        group_id=group_id,
        index=index,
        seed=cohort_seed(protocol, group_id, precision, part.index, index),
        launches=launches,
    )
