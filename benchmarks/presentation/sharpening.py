"""What measuring further has changed, in words."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.presentation.verdicts import VERDICTS
from benchmarks.presentation.wording import count, way_name, with_interval


def said(one: CaseRatio) -> str:
    """What a comparison says: `1.04 [0.98, 1.10] can't tell`."""
    words = VERDICTS[one.verdict].words
    if one.ratio is None:
        return words
    return f"{with_interval(one.ratio.ratio, one.ratio.low, one.ratio.high)} {words}"


def bought(before: RunSummary, after: RunSummary) -> Iterator[str]:
    """A line for each comparison that had launches and was measured further: before and after."""
    cells = {cell.case.case_id: cell.case for cell in after.cells}
    earlier = {(one.base, one.case): one for one in _comparisons(before)}
    for one in _comparisons(after):
        had = earlier.get((one.base, one.case))
        if one.ratio is None or had is None or had.ratio is None:
            continue
        num_more = one.ratio.num_launches - had.ratio.num_launches
        if num_more > 0:
            yield (
                f"{way_name(cells[one.case])}: {said(had)} -> {said(one)},"
                f" with {count(num_more, 'more launch')}"
            )


def _comparisons(summary: RunSummary) -> list[CaseRatio]:
    found = (*summary.ratios, *summary.costs, *summary.gains)
    return [one for one in found if not one.aa]
