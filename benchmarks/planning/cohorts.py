"""Makes cohorts from the cells that can run: parts that fit together, each with its base.

A case that does not fit beside its base makes a serial part with it: one after another, A B B A.
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.contract.plan import Cell, CohortPlan, LaunchPlan, PartPlan
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import SERIAL, TOGETHER
from benchmarks.planning.history import CohortKey, History
from benchmarks.planning.identity import cohort_seed

Fits = Callable[[Sequence[Cell]], bool]
"""Whether launches of these cells can be alive together."""


@dataclass(frozen=True)
class Part:
    """Cells of one group and precision that are measured in the same cohorts."""

    base: Cell
    others: tuple[Cell, ...] = ()
    further_bases: tuple[Cell, ...] = ()
    """The bases of the other recipes in the part: a cell is compared with that of its recipe."""
    aa: bool = False
    """Whether each base is compared with itself too."""
    resident: str = TOGETHER
    """serial: the base and the other case (with aa, the base itself) do not fit together."""
    index: int = 0
    """Position among the parts of the plan."""
    counts_base: bool = True
    """Whether this part must give its bases their own number of cohorts."""
    of_counterparts: bool = False
    """Whether the part compares cells with their counterpart (`Case.counterparts`), which is its
    base. The base of their group and recipe is in another part."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """For each case_id the cohorts of this part that the case still needs."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells of the part."""
        return (*self.bases, *self.others)

    @property
    def bases(self) -> tuple[Cell, ...]:
        """The base of each recipe."""
        return (self.base, *self.further_bases)

    def base_of(self, cell: Cell) -> Cell:
        """The cell that this one is compared with; a base is its own."""
        if self.of_counterparts:
            return self.base
        return next(one for one in self.bases if one.case.way.recipe == cell.case.way.recipe)

    @property
    def plan(self) -> PartPlan:
        """The part as it is stored with the plan."""
        return PartPlan(
            index=self.index,
            group_id=self.base.case.group_id,
            precision=self.base.case.way.precision,
            launches=tuple(
                LaunchPlan(cell.case.case_id, replica)
                for cell in self.cells
                for replica in range(2 if self.aa and cell in self.bases else 1)
            ),
            companions={
                cell.case.case_id: tuple(one.case.case_id for one in self.companions(cell))
                for cell in self.cells
            },
            resident=self.resident,
        )

    def companions(self, cell: Cell) -> list[Cell]:
        """The cells of the part that this one must be measured beside: base and counterparts."""
        wanted = (self.base_of(cell).case, *cell.case.counterparts)
        return [one for one in self.cells if one.case in wanted and one != cell]


class Packed(NamedTuple):
    """Chunks of cells, each of which fits as a whole beside given cells, and the other cells."""

    chunks: list[list[Cell]]
    others: list[Cell]


def parts_of(cells: Sequence[Cell], fits: Fits, *, aa: bool) -> list[Part]:
    """The parts of all groups, in the order of their cells.

    The base of a group's precision and recipe is its first cell whose mathematics is the
    workload's. With `aa` it is compared with itself, in cohorts with the cells that fit beside two
    launches of it.
    """
    families: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        families[cell.case.group_id, cell.case.way.precision].append(cell)
    parts: list[Part] = []
    for family in families.values():
        parts += _split(family, fits, first_index=len(parts), aa=aa)
    return parts


def bases_of(parts: Sequence[Part]) -> dict[str, str]:
    """For each case_id the case_id of its base; a base is its own base."""
    return {
        cell.case.case_id: part.base_of(cell).case.case_id
        for part in parts
        if not part.of_counterparts
        for cell in part.cells
    }


def with_missing(
    parts: Sequence[Part], history: History, protocol: MeasuringProtocol
) -> list[Part]:
    """The parts with the number of cohorts that each of their cells still needs.

    A cohort counts for a cell if its base took part, and its counterparts, if they are in the part.
    """
    found = []
    for part in parts:
        counted = part.cells if part.counts_base else part.others
        done = {one.case.case_id: _shared(one, part, history) for one in counted}
        missing = {name: max(0, protocol.num_cohorts - len(had)) for name, had in done.items()}
        found.append(dataclasses.replace(part, missing=missing))
    return found


def cohorts_of(
    parts: Sequence[Part], history: History, protocol: MeasuringProtocol, run_id: str
) -> list[CohortPlan]:
    """The cohorts still to be launched; the parts take turns, so that drift affects them alike."""
    queues = [_cohorts_of_part(part, history, protocol, run_id) for part in parts]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _split(family: Sequence[Cell], fits: Fits, *, first_index: int, aa: bool) -> list[Part]:
    """The parts of a group's precision: one with every recipe, if that fits, else some of each."""
    recipes: dict[str, list[Cell]] = defaultdict(list)
    for cell in family:
        recipes[cell.case.way.recipe].append(cell)
    bases = [_base(cells) for cells in recipes.values()]
    if len(bases) > 1 and fits([*family, *(bases if aa else [])]):
        others = tuple(cell for cell in family if cell not in bases)
        return [Part(bases[0], others, tuple(bases[1:]), aa=aa, index=first_index)]
    parts = [part for cells in recipes.values() for part in _of_recipe(cells, fits, aa=aa)]
    return [dataclasses.replace(part, index=first_index + i) for i, part in enumerate(parts)]


def _base(cells: Sequence[Cell]) -> Cell:
    return next((cell for cell in cells if cell.differs is None), cells[0])


def _of_recipe(cells: Sequence[Cell], fits: Fits, *, aa: bool) -> list[Part]:
    base = _base(cells)
    others = [cell for cell in cells if cell is not base]
    parts: list[Part] = []
    if aa:
        chunks, others = packed(others, [base, base], fits)
        at_once = TOGETHER if fits([base, base]) else SERIAL
        parts += [Part(base, tuple(chunk), aa=True, resident=at_once) for chunk in chunks or [[]]]
    chunks, apart = packed(others, [base], fits)
    parts += [Part(base, tuple(chunk)) for chunk in chunks]
    parts += [Part(base, (cell,), resident=SERIAL) for cell in apart]
    return [
        dataclasses.replace(part, counts_base=i == 0)
        for i, part in enumerate(parts or [Part(base)])
    ]


def packed(cells: Sequence[Cell], company: Sequence[Cell], fits: Fits) -> Packed:
    """The cells that fit beside `company`, in as few chunks as their order allows."""
    found = Packed([], [])
    for cell in cells:
        if not fits([*company, cell]):
            found.others.append(cell)
        elif found.chunks and fits([*company, *found.chunks[-1], cell]):
            found.chunks[-1].append(cell)
        else:
            found.chunks.append([cell])
    return found


def _shared(cell: Cell, part: Part, history: History) -> frozenset[CohortKey]:
    """The cohorts that count for a cell: those of its own in which its companions took part.

    With A/A, a base needs both of its launches. A companion that has failed is not required.
    """
    counting = history.cohorts(cell.result_key)
    if part.aa and cell in part.bases:
        counting &= history.cohorts(cell.result_key, replica=1)
    for companion in part.companions(cell):
        if not history.has_failed(companion.result_key):
            counting &= history.cohorts(companion.result_key)
    return counting


def _cohorts_of_part(
    part: Part, history: History, protocol: MeasuringProtocol, run_id: str
) -> list[CohortPlan]:
    first = history.next_index(run_id, part.index)
    looks = {one.case.case_id: history.last_look(one.result_key) for one in part.cells}
    cohorts = []
    for turn in range(max(part.missing.values(), default=0)):
        wanted = [name for name, num_missing in part.missing.items() if num_missing > turn]
        look = 1 + max(looks[name] for name in wanted)
        cohorts.append(
            cohort_of(part.plan, wanted, run_id, index=first + turn, protocol=protocol, look=look)
        )
    return cohorts


def cohort_of(
    part: PartPlan,
    wanted: Collection[str],
    run_id: str,
    *,
    index: int,
    protocol: MeasuringProtocol,
    look: int = 1,
    num_rounds: int | None = None,
) -> CohortPlan:
    """A cohort of the wanted case_ids of a part, with those that they must be measured beside."""
    beside = {other for name in wanted for other in part.companions[name]}
    launches = tuple(one for one in part.launches if one.case_id in {*wanted, *beside})
    seed = cohort_seed(protocol, part.group_id, part.precision, part.index, index)
    is_serial = part.resident == SERIAL and len(launches) == 2
    return CohortPlan(
        cohort_id=f"{run_id}/{part.index}/{index}",
        group_id=part.group_id,
        index=index,
        seed=seed,
        launches=_alternating(launches, seed) if is_serial else launches,
        resident=SERIAL if is_serial else TOGETHER,
        look=look,
        num_rounds=num_rounds,
    )


def _alternating(pair: tuple[LaunchPlan, ...], seed: int) -> tuple[LaunchPlan, ...]:
    """A B B A, in which a steady drift almost cancels (analysis.pairing); A is chosen at random."""
    first, second = random.Random(seed).sample(pair, 2)  # noqa: S311 - an order, no secret
    return (first, second, second, first)
