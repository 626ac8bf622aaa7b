"""Notes on a run's intervals: what they are worth, and the numbers that its tables leave out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.presentation.verdicts import VERDICTS
from benchmarks.presentation.wording import clean, names_by_group, way_name, with_interval
from benchmarks.statistics.ratios import MARGIN, Ratio

AA_WORDS = {
    True: "contains 1 as expected",
    False: "does not contain 1, so nothing is ranked against this base",
    None: "no interval",
}


def interval_notes(summary: RunSummary) -> Iterator[str]:
    """What each interval is worth, the ratios to the fastest case, means as experienced, A/A."""
    cells = {cell.case.case_id: cell for cell in summary.cells}
    compared = [one for one in summary.ratios if one.ratio and not one.aa]
    if compared:
        worth = ((cells[one.case], f" {_worth(one)}") for one in compared)
        yield (
            "what the intervals against base are worth (those of speeds: n - 1 degrees of freedom):"
            f" {names_by_group(worth)}"
        )
    yield from _leads(summary.leads, cells)
    yield from _experienced(compared, cells)
    yield from _means(summary.cells)
    yield from _aa(summary.ratios, cells)


def _worth(one: CaseRatio) -> str:
    assert one.ratio is not None
    return f"{one.ratio.degrees_of_freedom:.1f} degrees of freedom, look {one.look}"


def _leads(leads: Iterable[CaseRatio], cells: dict[str, CellSummary]) -> Iterator[str]:
    found = [
        (
            cells[one.case],
            f" {_told(one.ratio)} times {way_name(cells[one.base].case)} ({_worth(one)})"
            f" {VERDICTS[one.verdict].words}",
        )
        for one in leads
        if one.ratio
    ]
    if found:
        yield f"against the fastest: {names_by_group(found)}"


def _experienced(compared: Iterable[CaseRatio], cells: dict[str, CellSummary]) -> Iterator[str]:
    found = [(cells[one.case], f" {_told(one.experienced)}") for one in compared if one.experienced]
    if found:
        yield (
            "against base as experienced, in all rounds that count (verdicts rest on undisturbed"
            f" speeds): {names_by_group(found)}"
        )


def _means(cells: Iterable[CellSummary]) -> Iterator[str]:
    """The mean rates by unit; those of requests are told with their latency."""
    units: dict[str, list[tuple[CellSummary, str]]] = {}
    for cell in cells:
        mean = cell.measured.mean_items_per_s if cell.measured and not cell.latency else None
        if mean is not None and cell.use is not None:
            told = with_interval(mean.estimate, mean.low, mean.high)
            units.setdefault(clean(str(cell.unit)), []).append((cell, f" {told}"))
    for unit, found in units.items():
        yield f"mean {unit}s/s as experienced, disturbances included: {names_by_group(found)}"


def _aa(ratios: Iterable[CaseRatio], cells: dict[str, CellSummary]) -> Iterator[str]:
    for one in ratios:
        if one.aa and one.ratio:
            name = way_name(cells[one.base].case)
            wide = one.contains_one and (one.ratio.half_width or 0.0) > MARGIN
            words = "contains 1, but is wider than a tie" if wide else AA_WORDS[one.contains_one]
            yield f"A/A, {name} against itself: {_told(one.ratio)}, {words}"


def _told(ratio: Ratio) -> str:
    return with_interval(ratio.ratio, ratio.low, ratio.high)
