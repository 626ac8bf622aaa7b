"""A run on the terminal: a table for each group, then the notes that explain the tables.

Readable without colour, at 80 columns and in a pipe. Text from records goes through `wording.clean`
into `rich.text.Text`, never through markup.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TextIO

from rich import box  # noqa: TID253 - works with rich; commands import it when they run
from rich.console import Console  # noqa: TID253 - as above
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.equal_work import computed_in
from benchmarks.analysis.metrics import Format, Metric
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.case import TUNED
from benchmarks.contract.precision import PRECISIONS, like, products_of
from benchmarks.presentation.notes import SHOWN, notes
from benchmarks.presentation.sentence import sentence
from benchmarks.presentation.verdicts import VERDICTS, verdict_text
from benchmarks.presentation.wording import (
    by_group,
    clean,
    gib,
    group_name,
    plain,
    seconds,
    way_name,
    with_interval,
)
from benchmarks.statistics.intervals import Interval

WIDE = 100
"""Width of the console from which an interval is put beside its estimate, not beneath it."""
PIPED_WIDTH = 110
NONE = "-"
NO_OTHER_TUNED = "no other tuned"
"""In place of a ratio: no case of the group has the same recipe and precision."""
FORMATS: Mapping[Format, Callable[[float], str]] = {
    "number": plain,
    "seconds": seconds,
    "gib": gib,
}
"""How a metric's number is written, if it has no interval."""


def console_for(stream: TextIO) -> Console:
    """A console on the stream: plain text of 110 columns if the stream is no terminal.

    Characters that the stream's encoding lacks are escaped instead of ending the command.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    width = None if stream.isatty() else PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def render_summary(summary: RunSummary, console: Console, *, store: str = "") -> None:
    """Print tables, notes and the sentence; `store` is the folder that logs are relative to."""
    view = _View(console, [one for one in summary.ratios if not one.aa], summary.metrics, store)
    for group in by_group(summary.cells):
        _print_group(group, view)
    for note in notes(summary):
        console.print(Text(note))
    console.print()
    console.print(Text(sentence(summary), style="bold"))


class _View(NamedTuple):
    """The common inputs of the tables of all groups."""

    console: Console
    ratios: list[CaseRatio]
    """The comparisons of cases with their bases."""
    metrics: tuple[Metric, ...]
    store: str
    """The folder that logs are relative to."""

    @property
    def is_ascii(self) -> bool:
        """Whether the console can print no other characters."""
        return not self.console.encoding.startswith("utf")


def _print_group(group: list[CellSummary], view: _View) -> None:
    console = view.console
    measured = [cell for cell in group if cell.status in SHOWN and _rate(cell) is not None]
    console.print(Text(group_name(group[0].case), style="bold"))
    if measured:
        console.print(_measured_table(measured, view))
    missing = [cell for cell in group if cell not in measured]
    if missing:
        console.print(_missing_table(missing, view.store))
    console.print()


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


def _measured_table(cells: list[CellSummary], view: _View) -> Table:
    """The table of a group; if it would be too wide, intervals are put beneath their estimates."""
    width = view.console.width
    columns = _columns(cells, view, is_wide=width >= WIDE)
    if sum(column.width + 1 for column in columns) > width:
        columns = _columns(cells, view, is_wide=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
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


def _columns(cells: list[CellSummary], view: _View, *, is_wide: bool) -> list[_Column]:
    names = [Text(f"{way_name(cell.case)}{_real_precision(cell)}") for cell in cells]
    longest_word = max(len(word) for name in names for word in name.plain.split())
    is_latency = cells[0].latency is not None
    numbers = _latency_columns if is_latency else _rate_columns
    against = [_against_base(cell, view, is_wide=is_wide) for cell in cells]
    rows = ("all", "requests" if is_latency else "steps")
    shown = [one for one in view.metrics if one.heading and one.rows in rows]
    return [
        _Column("case", names, min_width=longest_word),
        *numbers(cells, view, is_wide=is_wide),
        _Column("against base", against),
        *(_metric_column(metric, cells, is_wide=is_wide) for metric in shown),
        _Column("grade", [Text(cell.grade or NONE) for cell in cells], "right"),
        _Column("n", [Text(_num_launches(cell)) for cell in cells], "right"),
    ]


def _metric_column(metric: Metric, cells: list[CellSummary], *, is_wide: bool) -> _Column:
    """A metric's column; its heading may be wrapped, its numbers are not."""
    heading = clean(str(metric.heading))
    texts = [_metric(metric, cell, is_wide=is_wide) for cell in cells]
    column = _Column(heading, texts, "right")
    if " " not in heading:
        return column
    longest_word = max(map(len, heading.split()))
    return column._replace(min_width=max(longest_word, column.text_width))


def _rate_columns(cells: list[CellSummary], view: _View, *, is_wide: bool) -> list[_Column]:
    del view
    unit = clean(cells[0].unit or "item")
    return [_Column(f"{unit}s/s", [_interval(_rate(cell), is_wide=is_wide) for cell in cells])]


def _latency_columns(cells: list[CellSummary], view: _View, *, is_wide: bool) -> list[_Column]:
    """A column for each requested percentile; an upper bound is marked as one."""
    asked = sorted({one for cell in cells if cell.latency for one in cell.latency.asked})
    at_most = "<=" if view.is_ascii else "≤"
    return [
        _Column(f"p{one} ms", [_latency(c, one, at_most, is_wide=is_wide) for c in cells])
        for one in asked
    ]


def _latency(cell: CellSummary, percentile: int, at_most: str, *, is_wide: bool) -> Text:
    assert cell.latency is not None
    bound = cell.latency.bounds.get(percentile)
    if bound is not None:
        return Text(f"{at_most} {with_interval(1e3 * bound, None, None)}")
    interval = cell.latency.percentiles.get(percentile)
    return _interval(interval and interval.scaled(1e3), is_wide=is_wide)


def _interval(value: Interval | None, *, is_wide: bool) -> Text:
    if value is None:
        return Text(NONE)
    separator = " " if is_wide else "\n"
    return Text(with_interval(value.estimate, value.low, value.high, separator=separator))


def _num_launches(cell: CellSummary) -> str:
    rate = _rate(cell)
    return NONE if rate is None else str(rate.num_launches)


def _real_precision(cell: CellSummary) -> str:
    """`, in fp32` if matmuls were computed in another precision than that of the case's name.

    An example is bf16 on a CPU without bf16 units: operands are rounded, then multiplied in fp32.
    The precision of an adapter's own matmul says nothing about a quantised model.
    """
    asked = products_of(cell.case.way.precision)
    if PRECISIONS[asked].is_quantised:
        return ""
    effective = cell.parity.effective
    seen = effective.products
    if seen and seen not in (asked, like(asked)):
        return f", like {clean(seen)}"
    real = computed_in(effective, asked)
    return "" if real == asked else f", in {real}"


def _rate(cell: CellSummary) -> Interval | None:
    return cell.measured.items_per_s if cell.measured else None


def _against_base(cell: CellSummary, view: _View, *, is_wide: bool) -> Text:
    """`1.32 [1.28, 1.36] ^ faster`, or on two lines if the table is too wide for it."""
    name = cell.case.case_id
    one = next((ratio for ratio in view.ratios if ratio.case == name), None)
    if one is None and cell.status == "unproven":
        unproven = verdict_text("unproven", ascii_only=view.is_ascii)
        return Text(unproven, style=VERDICTS["unproven"].style)
    if one is None:
        is_alone = cell.case.way.recipe == TUNED and not any(r.base == name for r in view.ratios)
        return Text(NO_OTHER_TUNED if is_alone else "base")
    words = verdict_text(one.verdict, ascii_only=view.is_ascii)
    verdict = Text(words, style=VERDICTS[one.verdict].style)
    if one.ratio is None:
        return verdict
    shown = with_interval(one.ratio.ratio, one.ratio.low, one.ratio.high)
    estimate, _, interval = shown.partition(" ")
    if is_wide or not interval:
        return Text.assemble(shown, " ", verdict)
    return Text.assemble(estimate, " ", verdict, "\n", interval)


def _metric(metric: Metric, cell: CellSummary, *, is_wide: bool) -> Text:
    """The first number of a metric that is known, with its mark."""
    for number in metric.numbers:
        value = cell.measured.metrics[number.key] if cell.measured else None
        if isinstance(value, Interval):
            return _interval(value, is_wide=is_wide)
        if value is not None:
            mark = f" {clean(number.mark)}" if number.mark else ""
            return Text(f"{FORMATS[metric.format](value)}{mark}")
    return Text(NONE)


def _missing_table(cells: list[CellSummary], store: str) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column("case", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for cell in cells:
        reason = clean(cell.reason or NONE)
        log = f"\nlog: {clean(f'{store}/{cell.log}' if store else cell.log)}" if cell.log else ""
        table.add_row(
            Text(way_name(cell.case)),
            Text(cell.status, style="" if cell.measured is None and not cell.log else "red"),
            Text(reason + log),
        )
    return table
