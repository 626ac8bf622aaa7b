"""The one sentence that sums up a run."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.record import SERIAL
from benchmarks.presentation.libraries import library_ratios
from benchmarks.presentation.verdicts import VERDICTS
from benchmarks.presentation.wording import count, group_name, way_name, with_interval
from benchmarks.statistics.ratios import MIN_LAUNCHES

SAYING = [verdict for verdict, shown in VERDICTS.items() if shown.ranks]
"""The verdicts that rank, in the order in which the sentence prefers them."""


def sentence(summary: RunSummary) -> str:
    """The largest ratio whose verdict ranks, with its interval; else why nothing is ranked.

    Then, if there are libraries, the one that costs most relative to its framework.
    """
    return "; ".join(dict.fromkeys([_leading(summary), *_dearest(summary)]))


def _dearest(summary: RunSummary) -> Iterator[str]:
    ranked = [
        (comparison.ratio.ratio, _say(comparison, case=library, base=base))
        for library, base, comparison in library_ratios(summary)
        if comparison.ratio and comparison.verdict in SAYING
    ]
    if ranked:
        yield min(ranked)[1]


def _leading(summary: RunSummary) -> str:
    ranked = [one for one in summary.ratios if not one.aa and one.verdict in SAYING and one.ratio]
    if not ranked:
        return f"nothing is ranked: {_why(summary)}"
    best = max(ranked, key=_prominence)
    cells = {cell.case.case_id: cell for cell in summary.cells}
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


def _why(summary: RunSummary) -> str:
    compared = [one for one in summary.ratios if not one.aa]
    if not any(cell.status == "ok" for cell in summary.cells):
        return "no case was measured"
    if not compared:
        return "no two cases with equal work, place and precision were measured"
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
