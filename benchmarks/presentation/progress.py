"""Progress on stderr: live on a terminal, plain lines elsewhere.

Nothing is drawn while a block is timed, because drawing takes CPU time from the launch. The display
is redrawn only on request: between turns and at the start of phases.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.contract.record import Record
from benchmarks.presentation.wording import count, duration

if TYPE_CHECKING:
    from rich.console import Console


class LineProgress:
    """Plain lines, one for each cohort and each launch: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = _Clock()

    def begin(self, number: int, estimate_s: float | None, *, what: str) -> None:
        """Print how much there is to do."""
        self._clock.begin(number, estimate_s)
        self._line(f"{what}{self._clock.remaining()}")

    def cohort(self, index: int, title: str, case_ids: list[str]) -> None:
        """Print which launches come together."""
        self._clock.cohort(index)
        launches = count(len(case_ids), "launch")
        self._line(f"{self._clock.name(index)}: {title}, {launches}{self._clock.remaining()}")

    def phase(self, case_id: str, phase: str) -> None:
        """Print nothing: phases are for a live display."""

    def round_done(self, index: int, max_rounds: int) -> None:
        """Print nothing: rounds are for a live display."""

    def record(self, record: Record) -> None:
        """Print how a launch ended."""
        self._line(f"  {describe(record)}")

    def note(self, text: str) -> None:
        """Print the text."""
        self._line(text)

    def end(self) -> None:
        """Do nothing: there is no display to close."""

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """One line that is redrawn between turns, above it a line for each launch that has ended."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live
        from rich.text import Text

        self._text = Text
        self._console = console
        self._clock = _Clock()
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._title = ""
        self._detail = ""

    def begin(self, number: int, estimate_s: float | None, *, what: str) -> None:
        """Open the display."""
        self._clock.begin(number, estimate_s)
        self._title = what
        self._live.start()

    def cohort(self, index: int, title: str, case_ids: list[str]) -> None:
        """Show which launches come together."""
        self._clock.cohort(index)
        self._title = self._clock.name(index)
        self._show("starting")

    def phase(self, case_id: str, phase: str) -> None:
        """Show the phase of a launch."""
        self._show(f"{case_id}: {phase.replace('_', ' ')}")

    def round_done(self, index: int, max_rounds: int) -> None:
        """Show the number of the round."""
        self._show(f"round {index} of at most {max_rounds}")

    def record(self, record: Record) -> None:
        """Print a line that stays, for a launch that has ended."""
        self._print(describe(record), style="" if record.status == "ok" else "bold red")

    def note(self, text: str) -> None:
        """Print the text as a line that stays."""
        self._print(text, style="yellow")

    def end(self) -> None:
        """Close the display."""
        self._live.stop()

    def _show(self, detail: str) -> None:
        line = f"{self._title}  {detail}{self._clock.remaining()}   (Ctrl-C ends after this round)"
        self._live.update(self._text(line, no_wrap=True, overflow="ellipsis"), refresh=True)

    def _print(self, line: str, style: str) -> None:
        self._console.print(self._text(line, style=style))


class _Clock:
    """The remaining time: from the plan's estimate, later from the cohorts that are done."""

    def __init__(self) -> None:
        self.num_cohorts = 0
        self._estimate_s: float | None = None
        self._begin = time.monotonic()
        self._num_done = 0

    def begin(self, num_cohorts: int, estimate_s: float | None) -> None:
        self.num_cohorts, self._estimate_s = num_cohorts, estimate_s
        self._begin = time.monotonic()

    def cohort(self, index: int) -> None:
        self._num_done = index

    def name(self, index: int) -> str:
        """Which cohort this is: of those that were planned, or one beyond them."""
        if index < self.num_cohorts:
            return f"cohort {index + 1}/{self.num_cohorts}"
        return f"further cohort {index + 1 - self.num_cohorts}"

    def remaining(self) -> str:
        if self._num_done >= self.num_cohorts:
            return ""
        elapsed_s = time.monotonic() - self._begin
        total_s = self._estimate_s
        if self._num_done:  # the first cohort compiles; later ones take as long or less
            total_s = elapsed_s / self._num_done * self.num_cohorts
        if total_s is None or total_s <= elapsed_s:
            return ""
        return f", about {duration(total_s - elapsed_s)} to go"


def describe(record: Record) -> str:
    """A launch that has ended, in one line."""
    case_id = record.case.case_id + (" (A/A)" if record.replica else "")
    if record.status != "ok":
        return f"{case_id}: {record.status}: {record.reason}"
    if record.only_prepared:
        return f"{case_id}: {_prepared(record)}, not timed"
    seconds = sorted(record.step_seconds or [float("nan")])
    rate = record.items_per_step / seconds[len(seconds) // 2]
    num_rounds = len({block.round for block in record.blocks})
    return f"{case_id}: {rate:.3g} {record.unit}s/s in {num_rounds} rounds"


def _prepared(record: Record) -> str:
    """What a launch that took no turns has done for later ones."""
    if record.cold_cache:
        return f"compiled in {record.first_steps_ns[0] / 1e9:.1f} s with an empty cache"
    return f"exported in {record.phases_s.get('export', 0.0):.1f} s"


def for_console(console: Console) -> LiveProgress | LineProgress:
    """A live display if the console is a terminal, else plain lines."""
    return LiveProgress(console) if console.is_terminal else LineProgress(console)
