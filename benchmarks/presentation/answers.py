"""The sentence that answers a group: which case is fastest, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.leaders import fastest, is_told_apart
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.settled import DECIDED
from benchmarks.analysis.summary import RunSummary
from benchmarks.analysis.uses import Use
from benchmarks.contract.case import IDIOMATIC
from benchmarks.contract.record import SERIAL
from benchmarks.presentation.wording import (
    count,
    is_known,
    joined,
    way_name,
    with_interval,
)
from benchmarks.statistics.ratios import MIN_LAUNCHES

MAX_SENTENCES = 2
RELIABLE: tuple[Use, ...] = ("base", "ranked", "tie", "undecided")
WHY_NOT: dict[Use, str] = {
    "disturbed": "was disturbed",
    "unsteady": "was not steady",
    "other work": "does other work",
}
"""Why nothing is compared with a base, by its use."""


@dataclass(frozen=True)
class _Family:
    """The cases of a group that have numbers, and one precision and recipe."""

    cells: Sequence[CellSummary]
    ratios: Sequence[CaseRatio]
    """Those to their base."""
    summary: RunSummary

    def name(self, case_id: str) -> str:
        found = (cell for cell in self.summary.cells if cell.case.case_id == case_id)
        return way_name(next(found).case, with_precision=False)

    def names(self, verdict: str) -> list[str]:
        """The cases with this verdict, without those of which it was withdrawn."""
        uses = {cell.case.case_id: cell.use for cell in self.cells}
        ratios = [one for one in self.ratios if one.verdict == verdict]
        return [self.name(one.case) for one in ratios if uses[one.case] in RELIABLE]


def answers(group: Iterable[CellSummary], summary: RunSummary) -> list[str]:
    """The sentences of a group: one for each precision and recipe, idiomatic first, two at most."""
    cells: dict[tuple[str, str], list[CellSummary]] = {}
    for cell in group:
        if cell.use is not None:
            way = cell.case.way
            cells.setdefault((way.recipe, way.precision), []).append(cell)
    if not cells:
        return ["nothing was measured"]
    families = [_family(own, summary) for own in cells.values()]
    families.sort(key=lambda one: (one.cells[0].case.way.recipe != IDIOMATIC, not one.ratios))
    is_one = len({precision for _, precision in cells}) == 1
    return [
        ("" if is_one else f"{one.cells[0].case.way.precision}: ") + _answer(one)
        for one in families[:MAX_SENTENCES]
    ]


def _family(cells: Sequence[CellSummary], summary: RunSummary) -> _Family:
    names = {cell.case.case_id for cell in cells}
    own = [one for one in summary.ratios if {one.case, one.base} <= names and not one.aa]
    return _Family(cells, own, summary)


def _answer(family: _Family) -> str:
    if not family.ratios:
        return _alone(family)
    base = family.name(family.ratios[0].base)
    leader = fastest(family.ratios)
    if leader is not None:
        parts = list(_led_by(leader, family, base))
    elif not any(one.verdict in DECIDED for one in family.ratios):
        parts = [f"nothing is decided yet: {_why(family, base)}"]
    else:
        parts = [_without_faster(family, base)]
    left_out = [
        way_name(cell.case, with_precision=False)
        for cell in family.cells
        if cell.use not in RELIABLE
    ]
    return "; ".join([*parts, *([f"not ranked: {joined(left_out)}"] if left_out else [])])


def _led_by(leader: CaseRatio, family: _Family, base: str) -> Iterable[str]:
    """The sentence of a family in which a case is faster than the base, and no other is faster.

    The cases that may be as fast are named with it.
    """
    direct = {one.case: one for one in family.summary.leads if one.base == leader.case}
    uses = {cell.case.case_id: cell.use for cell in family.cells}
    ties, others = [], []
    for one in family.ratios:
        if one is leader or uses[one.case] not in RELIABLE or one.verdict == "slower":
            continue
        found = direct.get(one.case)
        if found is not None and found.verdict == "same":
            ties.append(family.name(one.case))
        elif not is_told_apart(one, leader, found):
            others.append(family.name(one.case))
    name = family.name(leader.case)
    if others:
        yield (
            f"the fastest is {joined([name, *others], 'or')}, not told apart:"
            f" {name} is {_times(leader, base)}"
        )
    else:
        yield f"{name} is fastest: {_times(leader, base)}"
    if ties:
        yield f"{joined(ties)} {'tie' if len(ties) > 1 else 'ties'} with {name if others else 'it'}"


def _without_faster(family: _Family, base: str) -> str:
    """The sentence of a family in which something is decided, and nothing is faster."""
    ties, unknown = family.names("same"), family.names("cant_tell")
    slower = [one for one in family.ratios if one.verdict == "slower" and one.ratio]
    also = f"; slower: {joined(family.names('slower'))}" if slower else ""
    if unknown:
        tied = f"; {joined(ties)} {'tie' if len(ties) > 1 else 'ties'} with it" if ties else ""
        are = "are" if len(unknown) > 1 else "is"
        return (
            f"the fastest is not decided: {joined(unknown)} {are} not told apart from {base}"
            f" ({_evidence(next(one for one in family.ratios if one.verdict == 'cant_tell'))})"
            f"{tied}{also}"
        )
    if ties:
        first = next(one for one in family.ratios if one.verdict == "same")
        which = family.name(first.case) if len(ties) > 1 else "it"
        return f"{joined(ties)} and {base} tie: {which} is {_times(first, base)}{also}"
    second = max(slower, key=lambda one: one.ratio.ratio if one.ratio else 0.0)
    return f"{base} is fastest: the next, {family.name(second.case)}, is {_times(second, base)}"


def _alone(family: _Family) -> str:
    """The sentence of a family in which nothing is compared: the gain, if its case is tuned."""
    names = [way_name(cell.case, with_precision=False) for cell in family.cells]
    gains = {one.case: one for one in family.summary.gains if one.verdict in DECIDED}
    gain = gains.get(family.cells[0].case.case_id)
    if gain is not None:
        return f"{names[0]} is {_times(gain, family.name(gain.base))}"
    if len(names) > 1:
        return f"nothing is compared: the base of {joined(names)} has no result"
    return f"nothing is compared: {names[0]} is the only case with a result"


def _times(one: CaseRatio, base: str) -> str:
    """`1.62 [1.58, 1.66] times pytorch eager (95 % interval, 3 launches)`."""
    assert one.ratio is not None
    ratio = one.ratio
    if not is_known(ratio.low, ratio.high):
        return f"{one.verdict} than {base}, by how much is not known ({_evidence(one)})"
    return (
        f"{with_interval(ratio.ratio, ratio.low, ratio.high)} times {base}"
        f" (95 % interval, {_evidence(one)})"
    )


def _evidence(one: CaseRatio) -> str:
    num = one.ratio.num_launches if one.ratio else 0
    return count(num, "cohort" if one.resident == SERIAL else "launch")


def _why(family: _Family, base: str) -> str:
    """Why nothing is decided in a family with comparisons."""
    cell = next(one for one in family.cells if one.case.case_id == family.ratios[0].base)
    if cell.use is not None and cell.use not in RELIABLE:
        otherwise = "differs from itself (A/A)" if cell.parity.is_ranked else "is unproven"
        return f"the base, {base}, {WHY_NOT.get(cell.use, otherwise)}"
    compared = [one for one in family.ratios if one.verdict != "not_comparable"]
    if not compared:
        return "no case has the same mathematics as its base"
    if all(one.verdict == "unproven" for one in compared):
        return "no case is proven to do the same work as its base"
    if all(one.ratio is None for one in compared):
        return "no round is valid for both a case and its base"
    if all(one.ratio is None or one.ratio.num_launches < MIN_LAUNCHES for one in compared):
        left = " left undisturbed" * (family.summary.rounds.num_dropped > 0)
        return f"fewer than {MIN_LAUNCHES} launches{left}"
    return f"no difference is larger than the variation between {_evidence(compared[0])}"
