"""The table of a group's measurements, in the most complete of the layouts that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, NamedTuple

from rich import box  # noqa: TID253 - works with rich; commands import it when they run
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.metrics import Metric
from benchmarks.presentation.entries import (
    Layout,
    View,
    against_base,
    case_name,
    interval,
    latency,
    metric_number,
    num_launches,
)
from benchmarks.presentation.wording import clean

WIDE = 110
"""Width of the console from which further columns are shown."""
WIDE_LAYOUTS = (
    Layout(has_metrics=True, has_means=True),
    Layout(has_metrics=True),
    Layout(has_metrics=True, has_words=False),
    Layout(has_metrics=True, has_words=False, beneath="speeds"),
    Layout(has_metrics=True, beneath="all"),
)
LAYOUTS = (
    Layout(),
    Layout(has_words=False),
    Layout(has_words=False, beneath="speeds"),
    Layout(beneath="all"),
)
"""From the most complete to the narrowest."""
GAPS = (2, 1)
"""Blanks between two columns, the first if there is room for it."""


class _Column(NamedTuple):
    """One column of a table of measurements."""

    header: str
    texts: list[Text]
    justify: Literal["left", "right"] = "left"
    min_width: int | None = None
    """The least width to which the column may be wrapped; None: it is never wrapped."""

    @property
    def width(self) -> int:
        """The column's width in characters, if it is not wrapped."""
        return max(len(self.header), self.text_width)

    @property
    def text_width(self) -> int:
        """The width of its longest line in characters, without the header."""
        return max(len(line) for text in self.texts for line in text.plain.split("\n"))


def measured_table(cells: list[CellSummary], view: View, *, with_precision: bool) -> Table:
    """The table of a group; `with_precision` says whether its cases are named with theirs."""
    layouts = WIDE_LAYOUTS if view.width >= WIDE else LAYOUTS
    for layout, gap in product(layouts, GAPS):
        columns = list(_columns(cells, view, layout, with_precision=with_precision))
        if sum(column.width + gap for column in columns) - gap <= view.width:
            break
    # The box puts one blank between two columns.
    padding = (0, 0, 0, gap - 1)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    for column in columns:
        table.add_column(
            column.header,
            justify=column.justify,
            min_width=column.min_width,
            no_wrap=column.min_width is None,
        )
    for row in zip(*(column.texts for column in columns), strict=True):
        table.add_row(*row)
    return table


def _columns(
    cells: list[CellSummary], view: View, layout: Layout, *, with_precision: bool
) -> Iterator[_Column]:
    names = [Text(case_name(cell, with_precision=with_precision)) for cell in cells]
    longest_word = max(len(word) for name in names for word in name.plain.split())
    is_latency = cells[0].latency is not None
    yield _Column("case", names, min_width=longest_word)
    yield from (_latencies if is_latency else _rates)(cells, view, layout)
    yield _Column("against base", [against_base(cell, view, layout) for cell in cells])
    yield _Column("n", [Text(num_launches(cell, view)) for cell in cells], "right")
    if layout.has_metrics:
        rows = ("all", "requests" if is_latency else "steps")
        for metric in view.metrics:
            if metric.heading and metric.rows in rows:
                yield _metric_column(metric, cells)
    yield _Column("grade", [Text(cell.grade or "") for cell in cells], "right")
    yield _Column("use", [Text(cell.use or "") for cell in cells])


def _rates(cells: list[CellSummary], view: View, layout: Layout) -> Iterator[_Column]:
    del view
    unit = clean(cells[0].unit or "item")
    heading = f"undisturbed {unit}s/s" if layout.has_means else f"{unit}s/s"
    yield _Column(heading, [interval(cell.rate, layout) for cell in cells])
    if layout.has_means:
        means = [cell.measured.mean_items_per_s if cell.measured else None for cell in cells]
        yield _Column(f"mean {unit}s/s", [interval(mean, layout) for mean in means])


def _latencies(cells: list[CellSummary], view: View, layout: Layout) -> Iterator[_Column]:
    """A column for each requested percentile."""
    for one in sorted({one for cell in cells if cell.latency for one in cell.latency.asked}):
        yield _Column(f"p{one} ms", [latency(cell, one, view, layout) for cell in cells])


def _metric_column(metric: Metric, cells: Sequence[CellSummary]) -> _Column:
    """A metric's column; its heading may be wrapped, its numbers are not."""
    heading = clean(str(metric.heading))
    column = _Column(heading, [metric_number(metric, cell) for cell in cells], "right")
    if " " not in heading:
        return column
    longest_word = max(map(len, heading.split()))
    return column._replace(min_width=max(longest_word, column.text_width))
