"""The cost of libraries in words: each relative to the framework that it computes with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.presentation.verdicts import VERDICTS
from benchmarks.presentation.wording import group_name, way_name, with_interval


class LibraryRatio(NamedTuple):
    """A library's case, the same case of the framework that it computes with, and their ratio."""

    library: CellSummary
    base: CellSummary
    comparison: CaseRatio


def library_ratios(summary: RunSummary) -> Iterator[LibraryRatio]:
    """The ratios of a run's libraries; the framework may be the base of the group as well."""
    cells = {cell.case.case_id: cell for cell in summary.cells}
    for one in (*summary.costs, *summary.ratios):
        library = cells[one.case]
        on_base = library.case.on_base
        if on_base is not None and on_base.case_id == one.base:
            yield LibraryRatio(library, cells[one.base], one)


def library_notes(summary: RunSummary) -> Iterator[str]:
    """A line for each group with libraries, each with its ratio to its framework."""
    groups: dict[str, list[str]] = {}
    for library, base, one in library_ratios(summary):
        ratio = one.ratio
        parts = [f"{way_name(library.case)} against {base.case.way.framework}"]
        if one.verdict != "not_comparable":
            parts.append(
                with_interval(ratio.ratio, ratio.low, ratio.high) if ratio else "no shared round"
            )
        text = " ".join([*parts, VERDICTS[one.verdict].words])
        groups.setdefault(group_name(library.case), []).append(text)
    for group, texts in groups.items():
        yield (
            "cost of libraries (time of the framework alone / time of the library, below 1 is"
            f" slower): {group}: {', '.join(texts)}"
        )
