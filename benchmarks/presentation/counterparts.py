"""The cost of libraries and the gain of tuning in words, each relative to the counterpart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.presentation.verdicts import VERDICTS
from benchmarks.presentation.wording import clean, group_name, way_name, with_interval


class CounterpartRatio(NamedTuple):
    """A case, its counterpart (`Case.counterparts`), and their ratio."""

    cell: CellSummary
    base: CellSummary
    comparison: CaseRatio


def library_ratios(summary: RunSummary) -> Iterator[CounterpartRatio]:
    """The ratios of a run's libraries; the framework may be the base of the group as well."""
    cells = {cell.case.case_id: cell for cell in summary.cells}
    for one in (*summary.costs, *summary.ratios):
        library = cells[one.case]
        on_base = library.case.on_base
        if on_base is not None and on_base.case_id == one.base:
            yield CounterpartRatio(library, cells[one.base], one)


def tuning_ratios(summary: RunSummary) -> Iterator[CounterpartRatio]:
    """The ratios of a run's tuned cases to the same cases idiomatic."""
    cells = {cell.case.case_id: cell for cell in summary.cells}
    for one in summary.gains:
        yield CounterpartRatio(cells[one.case], cells[one.base], one)


def counterpart_notes(summary: RunSummary) -> Iterator[str]:
    """A line for each group with libraries, and for each with tuned cases; what these rewrite."""
    costs = (
        (one, f"{way_name(one.cell.case)} against {one.base.case.way.framework}")
        for one in library_ratios(summary)
    )
    for text in _by_group(costs):
        yield (
            "cost of libraries (time of the framework alone / time of the library, below 1 is"
            f" slower): {text}"
        )
    gains = ((one, way_name(one.cell.case)) for one in tuning_ratios(summary))
    for text in _by_group(gains):
        yield (
            "gain of tuning (time of the idiomatic case / time of the tuned case, above 1 is"
            f" faster): {text}"
        )
    yield from _rewritings(summary)


def _by_group(named: Iterable[tuple[CounterpartRatio, str]]) -> Iterator[str]:
    """For each group its name, and each comparison with its name, ratio and verdict."""
    groups: dict[str, list[str]] = {}
    for (cell, _, one), name in named:
        ratio = one.ratio
        parts = [name]
        if one.verdict != "not_comparable":
            parts.append(
                with_interval(ratio.ratio, ratio.low, ratio.high) if ratio else "no shared round"
            )
        text = " ".join([*parts, VERDICTS[one.verdict].words])
        groups.setdefault(group_name(cell.case), []).append(text)
    for group, texts in groups.items():
        yield f"{group}: {', '.join(texts)}"


def _rewritings(summary: RunSummary) -> Iterator[str]:
    """The operations that the tuned cases rewrite, each text with the cases that it is of."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for cell in summary.cells:
        if cell.rewrites is not None and cell.measured is not None:
            names = found.setdefault((cell.case.work.workload, cell.rewrites), {})
            names[way_name(cell.case)] = None
    for (workload, rewrites), names in found.items():
        yield f"rewritten in {workload} by {', '.join(names)}: {clean(rewrites)}"
