"""The one sentence that sums up a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.case import IDIOMATIC
from benchmarks.contract.record import SERIAL
from benchmarks.presentation.counterparts import (
    CounterpartRatio,
    library_ratios,
    tuning_ratios,
)
from benchmarks.presentation.verdicts import VERDICTS
from benchmarks.presentation.wording import count, group_name, way_name, with_interval
from benchmarks.statistics.ratios import MIN_LAUNCHES

SAYING = [verdict for verdict, shown in VERDICTS.items() if shown.ranks]
"""The verdicts that rank, in the order in which the sentence prefers them."""


def sentence(summary: RunSummary) -> str:
    """The largest ratio whose verdict ranks, with its interval; else why nothing is ranked.

    Tuned cases are left out of it, unless only they are compared. Then, if there are libraries, the
    one that costs most relative to its framework, and if there is tuning, what gains most from it.
    """
    compared = [one for one in summary.ratios if not one.aa]
    further = [*_say_first(library_ratios(summary), min), *_say_first(tuning_ratios(summary), max)]
    if not compared and further:
        return "; ".join(further)
    return "; ".join(dict.fromkeys([_leading(summary, compared), *further]))


def _say_first(
    found: Iterable[CounterpartRatio], first: Callable[[list[tuple[float, str]]], tuple[float, str]]
) -> Iterator[str]:
    """The comparison with the least or the largest ratio of those that rank, if there is one."""
    ranked = [
        (comparison.ratio.ratio, _say(comparison, case=cell, base=base))
        for cell, base, comparison in found
        if comparison.ratio and comparison.verdict in SAYING
    ]
    if ranked:
        yield first(ranked)[1]


def _leading(summary: RunSummary, compared: Sequence[CaseRatio]) -> str:
    cells = {cell.case.case_id: cell for cell in summary.cells}
    usual = [one for one in compared if cells[one.case].case.way.recipe == IDIOMATIC] or compared
    ranked = [one for one in usual if one.verdict in SAYING and one.ratio]
    if not ranked:
        return f"nothing is ranked: {_why(summary, usual)}"
    best = max(ranked, key=_prominence)
    return _say(best, case=cells[best.case], base=cells[best.base])


def _prominence(one: CaseRatio) -> tuple[int, float]:
    assert one.ratio is not None
    return -SAYING.index(one.verdict), one.ratio.ratio


def _say(one: CaseRatio, *, case: CellSummary, base: CellSummary) -> str:
    assert one.ratio is not None
    ratio = one.ratio
    estimate, _, interval = with_interval(ratio.ratio, ratio.low, ratio.high).partition(" ")
    names = [way_name(cell.case, with_precision=False) for cell in (case, base)]
    work = f"{group_name(case.case, with_place=False)} {case.case.way.precision}"
    behind = count(ratio.num_launches, "cohort" if one.resident == SERIAL else "launch")
    if one.verdict == "same":
        return f"{names[0]} is as fast as {names[1]} on {work}: {estimate}x {interval} ({behind})"
    return f"{names[0]} is {estimate}x {interval} as fast as {names[1]} on {work} ({behind})"


def _why(summary: RunSummary, compared: Sequence[CaseRatio]) -> str:
    if not any(cell.status == "ok" for cell in summary.cells):
        return "no case was measured"
    if not compared:
        return "no two cases with equal work, place, precision and recipe were measured"
    compared = [one for one in compared if one.verdict != "not_comparable"]
    if not compared:
        return "no case has the same mathematics as its base"
    if all(one.verdict == "unproven" for one in compared):
        return "no case is proven to do the same work as its base"
    if all(one.ratio is None for one in compared):
        return "no round is valid for both a case and its base"
    if all(one.ratio is None or one.ratio.num_launches < MIN_LAUNCHES for one in compared):
        left = " left undisturbed" * (summary.rounds.num_dropped > 0)
        return f"fewer than {MIN_LAUNCHES} launches{left} (protocol={summary.protocol})"
    return "no difference is larger than the variation between launches"
