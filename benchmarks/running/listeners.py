"""The events of a run or of proofs, and the fan-out that sends them to every listener.

Progress on a terminal is one listener; a tracker or an exporter is another.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.contract.record import Record


class Listener(Protocol):
    """Receives the events of a run, or of proofs, between turns: nothing is timed meanwhile."""

    def begin(self, number: int, estimate_s: float | None, *, what: str) -> None:
        """A run or its proofs begin: `what` says for people how many cohorts or cells."""

    def cohort(self, index: int, title: str, case_ids: list[str]) -> None:
        """The index-th cohort begins."""

    def phase(self, case_id: str, phase: str) -> None:
        """A launch enters a phase."""

    def round_done(self, index: int, max_rounds: int) -> None:
        """A round has ended."""

    def record(self, record: Record) -> None:
        """A launch has ended."""

    def note(self, text: str) -> None:
        """A message for people."""

    def end(self) -> None:
        """Measuring has ended."""


class FanOut:
    """A listener that passes every event to several others, in order.

    A listener that raises must not cost a measurement: it gets no further events, and the others
    get its error as one note, or stderr does if no listener is left. An exception that ends the run
    (Ctrl-C) passes through.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = list(listeners)

    def begin(self, number: int, estimate_s: float | None, *, what: str) -> None:
        """Tell every listener."""
        self._tell(lambda one: one.begin(number, estimate_s, what=what))

    def cohort(self, index: int, title: str, case_ids: list[str]) -> None:
        """Tell every listener."""
        self._tell(lambda one: one.cohort(index, title, case_ids))

    def phase(self, case_id: str, phase: str) -> None:
        """Tell every listener."""
        self._tell(lambda one: one.phase(case_id, phase))

    def round_done(self, index: int, max_rounds: int) -> None:
        """Tell every listener."""
        self._tell(lambda one: one.round_done(index, max_rounds))

    def record(self, record: Record) -> None:
        """Tell every listener."""
        self._tell(lambda one: one.record(record))

    def note(self, text: str) -> None:
        """Tell every listener."""
        self._tell(lambda one: one.note(text))

    def end(self) -> None:
        """Tell every listener."""
        self._tell(lambda one: one.end())

    def _tell(self, event: Callable[[Listener], None]) -> None:
        for listener in tuple(self._listeners):
            if listener not in self._listeners:  # it failed on the note about another listener
                continue
            try:
                event(listener)
            except Exception as error:  # noqa: BLE001 - a listener may raise anything
                self._listeners.remove(listener)
                name, cause = type(listener).__name__, f"{type(error).__name__}: {error}"
                failure = f"{name} failed and gets no further events ({cause})"
                self.note(failure)
                if not self._listeners:
                    with contextlib.suppress(OSError, ValueError):  # stderr is closed
                        sys.stderr.write(f"{failure}\n")
