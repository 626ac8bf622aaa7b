"""A run on the terminal: the headline, for each group its answer and table, then notes.

Readable without colour, at 80 columns and in a pipe. Text from records goes through `wording.clean`
into `rich.text.Text`, never through markup.
"""

from __future__ import annotations

import io
from typing import TextIO

from rich.console import Console  # noqa: TID253 - works with rich; commands import it when they run
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.summary import RunSummary
from benchmarks.presentation.answers import answers
from benchmarks.presentation.entries import NONE, View
from benchmarks.presentation.footer import footer
from benchmarks.presentation.headline import headline
from benchmarks.presentation.notes import notes
from benchmarks.presentation.table import measured_table
from benchmarks.presentation.wording import by_group, clean, group_name, way_name

PIPED_WIDTH = 110


def console_for(stream: TextIO) -> Console:
    """A console on the stream: plain text of 110 columns if the stream is no terminal.

    Characters that the stream's encoding lacks are escaped instead of ending the command.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    width = None if stream.isatty() else PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def render_summary(
    summary: RunSummary, console: Console, *, store: str = "", all_notes: bool = False
) -> None:
    """Print the run; `store` is the folder that logs are relative to.

    With `all_notes` everything that is known of its numbers is below it, else the few lines that
    everybody needs.
    """
    view = View(
        width=console.width,
        is_ascii=not console.encoding.startswith("utf"),
        ratios={one.case: one for one in summary.ratios if not one.aa},
        metrics=summary.metrics,
    )
    for line in headline(summary):
        console.print(Text(line))
    console.print()
    for group in by_group(summary.cells):
        precisions = {cell.case.way.precision for cell in group}
        shared = precisions.pop() if len(precisions) == 1 else None
        console.print(Text(" ".join([group_name(group[0].case), *([shared] if shared else [])])))
        for answer in answers(group, summary):
            console.print(Text(answer, style="bold"))
        measured = [cell for cell in group if cell.use]
        if measured:
            console.print(measured_table(measured, view, with_precision=shared is None))
        missing = [cell for cell in group if not cell.use]
        if missing:
            console.print(_missing_table(missing, store, with_precision=shared is None))
        console.print()
    for note in (notes if all_notes else footer)(summary):
        console.print(Text(note))


def _missing_table(cells: list[CellSummary], store: str, *, with_precision: bool) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column("case", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for cell in cells:
        reason = clean(cell.reason or NONE)
        log = f"\nlog: {clean(f'{store}/{cell.log}' if store else cell.log)}" if cell.log else ""
        table.add_row(
            Text(way_name(cell.case, with_precision=with_precision)),
            Text(cell.status, style="" if cell.measured is None and not cell.log else "red"),
            Text(reason + log),
        )
    return table
