"""A run on the terminal: a table for each group, then what one must know to read it.

Readable without colour, at 80 columns and where it is piped. Text from records goes through
`wording.clean` into `rich.text.Text`, never through markup.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Literal, NamedTuple, TextIO

from rich import box  # noqa: TID253 - works with rich; commands import it when they run
from rich.console import Console  # noqa: TID253 - as above
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.equal_work import computed_in
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.precision import PRECISIONS, like, products_of
from benchmarks.presentation.notes import SHOWN, notes
from benchmarks.presentation.sentence import sentence
from benchmarks.presentation.wording import (
    clean,
    gib,
    group_name,
    seconds,
    verdict_text,
    way_name,
    with_interval,
)
from benchmarks.statistics.intervals import Interval

WIDE = 100
"""Columns from which an interval stands beside its estimate instead of beneath it."""
PIPED_WIDTH = 110
NONE = "-"
STYLES = {"faster": "green", "slower": "red", "unproven": "yellow"}


def console_for(stream: TextIO) -> Console:
    """A console on the stream: plain text of 110 columns where it is no terminal.

    Characters that the stream's encoding lacks are escaped instead of ending the command.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    width = None if stream.isatty() else PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def render_summary(summary: RunSummary, console: Console, *, store: str = "") -> None:
    """Print tables, notes and the sentence; `store` is the folder that logs are relative to."""
    ratios = {one.case: one for one in summary.ratios if not one.aa}
    for group in _groups(summary.cells):
        _print_group(group, ratios, console, store)
    for note in notes(summary):
        console.print(Text(note))
    console.print()
    console.print(Text(sentence(summary), style="bold"))


def _groups(cells: Iterable[CellSummary]) -> list[list[CellSummary]]:
    groups: dict[str, list[CellSummary]] = {}
    for cell in cells:
        groups.setdefault(cell.case.group_id, []).append(cell)
    return list(groups.values())


def _print_group(
    group: list[CellSummary], ratios: dict[str, CaseRatio], console: Console, store: str
) -> None:
    measured = [cell for cell in group if cell.status in SHOWN and _rate(cell) is not None]
    console.print(Text(group_name(group[0].case), style="bold"))
    if measured:
        console.print(_measured_table(measured, ratios, console))
    missing = [cell for cell in group if cell not in measured]
    if missing:
        console.print(_missing_table(missing, store))
    console.print()


class _Column(NamedTuple):
    """One column of a table of what was measured."""

    header: str
    texts: list[Text]
    justify: Literal["left", "right"] = "left"
    min_width: int | None = None
    """From which the column may be wrapped; None: it stays as wide as it is."""

    @property
    def width(self) -> int:
        """Cells that the column takes where it is not wrapped."""
        lines = [line for text in self.texts for line in text.plain.split("\n")]
        return max(len(self.header), *map(len, lines))


def _measured_table(
    cells: list[CellSummary], ratios: dict[str, CaseRatio], console: Console
) -> Table:
    """The table of a group; where it would be too wide, intervals stand beneath their estimates."""
    columns = _columns(cells, ratios, console, is_wide=console.width >= WIDE)
    if sum(column.width + 1 for column in columns) > console.width:
        columns = _columns(cells, ratios, console, is_wide=False)
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


def _columns(
    cells: list[CellSummary], ratios: dict[str, CaseRatio], console: Console, *, is_wide: bool
) -> list[_Column]:
    names = [Text(f"{way_name(cell.case)}{_real_precision(cell)}") for cell in cells]
    longest_word = max(len(word) for name in names for word in name.plain.split())
    is_latency = cells[0].latency is not None
    numbers = _latency_columns if is_latency else _rate_columns
    against = [
        _against_base(cell, ratios.get(cell.case.case_id), console, is_wide=is_wide)
        for cell in cells
    ]
    first = [Text(_first_answer(cell) if is_latency else _first_step(cell)) for cell in cells]
    longest_time = max(len(text.plain) for text in first)
    return [
        _Column("case", names, min_width=longest_word),
        *numbers(cells, console, is_wide=is_wide),
        _Column("against base", against),
        _Column(
            "first answer" if is_latency else "first step",
            first,
            "right",
            min_width=max(len("answer" if is_latency else "first"), longest_time),
        ),
        _Column("GiB", [Text(_memory(cell)) for cell in cells], "right"),
        _Column("grade", [Text(cell.grade or NONE) for cell in cells], "right"),
        _Column("n", [Text(_num_launches(cell)) for cell in cells], "right"),
    ]


def _rate_columns(cells: list[CellSummary], console: Console, *, is_wide: bool) -> list[_Column]:
    del console
    unit = clean(cells[0].unit or "item")
    return [_Column(f"{unit}s/s", [_interval(_rate(cell), is_wide=is_wide) for cell in cells])]


def _latency_columns(cells: list[CellSummary], console: Console, *, is_wide: bool) -> list[_Column]:
    """A column for each percentile that was asked for; a bound is marked as one."""
    asked = sorted({one for cell in cells if cell.latency for one in cell.latency.asked})
    at_most = "≤" if console.encoding.startswith("utf") else "<="
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


def _memory(cell: CellSummary) -> str:
    memory = cell.measured.peak_memory_bytes if cell.measured else None
    return NONE if memory is None else gib(memory)


def _num_launches(cell: CellSummary) -> str:
    rate = _rate(cell)
    return NONE if rate is None else str(rate.num_launches)


def _real_precision(cell: CellSummary) -> str:
    """`, in fp32` where products were computed in another precision than the case is named after.

    As bf16 is on a CPU that cannot multiply it: operands are rounded, products are fp32's. What
    was seen of an adapter's own products says nothing of a quantised model.
    """
    asked = products_of(cell.case.way.precision)
    if PRECISIONS[asked].is_quantised:
        return ""
    effective = cell.parity.effective
    seen = effective.get("products")
    if seen and seen not in (asked, like(asked)):
        return f", like {clean(seen)}"
    real = computed_in(effective, asked)
    return "" if real == asked else f", in {real}"


def _rate(cell: CellSummary) -> Interval | None:
    return cell.measured.items_per_s if cell.measured else None


def _against_base(
    cell: CellSummary, one: CaseRatio | None, console: Console, *, is_wide: bool
) -> Text:
    """`1.32 [1.28, 1.36] ^ faster`, or on two lines where the table is too wide for it."""
    if one is None and cell.status == "unproven":
        unproven = verdict_text("unproven", ascii_only=not console.encoding.startswith("utf"))
        return Text(unproven, style=STYLES["unproven"])
    if one is None:
        return Text("base")
    words = verdict_text(one.verdict, ascii_only=not console.encoding.startswith("utf"))
    verdict = Text(words, style=STYLES.get(one.verdict, ""))
    if one.ratio is None:
        return verdict
    shown = with_interval(one.ratio.ratio, one.ratio.low, one.ratio.high)
    estimate, _, interval = shown.partition(" ")
    if is_wide or not interval:
        return Text.assemble(shown, " ", verdict)
    return Text.assemble(estimate, " ", verdict, "\n", interval)


def _first_step(cell: CellSummary) -> str:
    """The first step with a filled compile cache; else with an empty one, and marked so."""
    if cell.measured is None:
        return NONE
    return _either(cell.measured.first_step_s, cell.measured.first_step_cold_s)


def _first_answer(cell: CellSummary) -> str:
    """The same of the time from the weights to the first answer."""
    if cell.measured is None:
        return NONE
    return _either(cell.measured.first_answer_s, cell.measured.first_answer_cold_s)


def _either(warm_s: float | None, cold_s: float | None) -> str:
    if warm_s is not None:
        return seconds(warm_s)
    return NONE if cold_s is None else f"{seconds(cold_s)} cold"


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
