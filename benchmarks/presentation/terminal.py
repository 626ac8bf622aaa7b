"""A run on the terminal: a table for each group, then what one must know to read it.

Readable without colour, at 80 columns and where it is piped. Text from records goes through
`wording.clean` into `rich.text.Text`, never through markup.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import NamedTuple, TextIO

from rich import box  # noqa: TID253 - works with rich; commands import it when they run
from rich.console import Console  # noqa: TID253 - as above
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.comparisons import Comparison
from benchmarks.analysis.parity import computed_in
from benchmarks.analysis.summary import RunSummary
from benchmarks.presentation.notes import notes
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
SHOWN = ("ok", "unproven")
"""Statuses whose numbers are shown."""
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
    group: list[CellSummary], ratios: dict[str, Comparison], console: Console, store: str
) -> None:
    measured = [cell for cell in group if cell.status in SHOWN and _rate(cell) is not None]
    console.print(Text(group_name(group[0].case), style="bold"))
    if measured:
        console.print(_measured_table(measured, ratios, console))
    missing = [cell for cell in group if cell not in measured]
    if missing:
        console.print(_missing_table(missing, store))
    console.print()


def _measured_table(
    cells: list[CellSummary], ratios: dict[str, Comparison], console: Console
) -> Table:
    rows = [_row(cell, ratios.get(cell.case.case_id), console) for cell in cells]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
    longest_word = max(len(word) for row in rows for word in row.case.plain.split())
    longest_time = max(len(row.first_step.plain) for row in rows)
    table.add_column("case", min_width=longest_word)
    for header in (f"{clean(cells[0].unit or 'item')}s/s", "against base"):
        table.add_column(header, no_wrap=True)
    table.add_column("first step", justify="right", min_width=max(len("first"), longest_time))
    for header in ("GiB", "grade", "n"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


class _Row(NamedTuple):
    case: Text
    rate: Text
    against_base: Text
    first_step: Text
    memory: Text
    grade: Text
    num_launches: Text


def _row(cell: CellSummary, one: Comparison | None, console: Console) -> _Row:
    rate, memory = _rate(cell), cell.measured.peak_memory_bytes if cell.measured else None
    assert rate is not None
    separator = " " if console.width >= WIDE else "\n"
    return _Row(
        case=Text(f"{way_name(cell.case)}{_real_precision(cell)}"),
        rate=Text(with_interval(rate.estimate, rate.low, rate.high, separator=separator)),
        against_base=_against_base(cell, one, console),
        first_step=Text(_first_step(cell)),
        memory=Text(NONE if memory is None else gib(memory)),
        grade=Text(cell.grade or NONE),
        num_launches=Text(str(rate.num_launches)),
    )


def _real_precision(cell: CellSummary) -> str:
    """`, in fp32` where products were computed in another precision than the case is named after.

    As bf16 is on a CPU that cannot multiply it: operands are rounded, products are fp32's.
    """
    asked = cell.case.way.precision.removesuffix("_pure")
    effective = cell.parity.effective
    seen = effective.get("products")
    if seen and seen not in (asked, "tf32" if asked == "fp16" else asked):
        return f", like {clean(seen)}"
    real = computed_in(effective, asked)
    return "" if real == asked else f", in {real}"


def _rate(cell: CellSummary) -> Interval | None:
    return cell.measured.items_per_s if cell.measured else None


def _against_base(cell: CellSummary, one: Comparison | None, console: Console) -> Text:
    """`1.32 [1.28, 1.36] ^ faster`, or on two lines where the console is narrow."""
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
    if console.width >= WIDE or not interval:
        return Text.assemble(shown, " ", verdict)
    return Text.assemble(estimate, " ", verdict, "\n", interval)


def _first_step(cell: CellSummary) -> str:
    """The first step with a filled compile cache; else with an empty one, and marked so."""
    measured = cell.measured
    if measured is None:
        return NONE
    if measured.first_step_s is not None:
        return seconds(measured.first_step_s)
    cold = measured.first_step_cold_s
    return NONE if cold is None else f"{seconds(cold)} cold"


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
