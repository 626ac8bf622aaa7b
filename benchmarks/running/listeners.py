"""Who is told what a run does: progress on a terminal is one listener among others."""

from __future__ import annotations

from typing import Protocol

from benchmarks.contract.record import Record


class Listener(Protocol):
    """What is told of a run, or of proofs, while it goes on."""

    def begin(self, number: int, estimate_s: float | None, *, what: str) -> None:
        """So many things begin: `what` says what they are."""

    def cohort(self, index: int, title: str, case_ids: list[str]) -> None:
        """The index-th cohort begins."""

    def phase(self, case_id: str, phase: str) -> None:
        """A launch enters a phase."""

    def round_done(self, index: int, max_rounds: int) -> None:
        """A round has ended."""

    def record(self, record: Record) -> None:
        """A launch has ended."""

    def note(self, text: str) -> None:
        """Something that people should know."""

    def end(self) -> None:
        """Measuring has ended."""
