"""Requests to end a run early: Ctrl-C, SIGTERM and the time limit."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from benchmarks.errors import EXIT_OK, EXIT_SIGINT, EXIT_SIGTERM


class StopNowError(BaseException):
    """A second request to stop: end at once. `except Exception` must not catch it."""


class Stopping:
    """While this is open, a first Ctrl-C or SIGTERM sets `requested`, a second raises."""

    def __init__(self, max_time_s: float | None = None) -> None:
        self._deadline = None if max_time_s is None else time.monotonic() + max_time_s
        self._is_held = False
        self.exit_code = EXIT_OK
        """130 or 143 after a signal, else 0."""

    @property
    def requested(self) -> bool:
        """Whether to end after the current round: after a signal, or past the time limit."""
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return late or self.signalled

    @property
    def signalled(self) -> bool:
        """Whether a signal came. Work that is kept, such as a proof, ignores the time limit."""
        return self.exit_code != EXIT_OK

    def __enter__(self) -> Stopping:
        self._handlers = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within this block a second signal raises nothing, so that cleaning up can finish."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.exit_code != EXIT_OK
        self.exit_code = EXIT_SIGINT if number == signal.SIGINT else EXIT_SIGTERM
        if again and not self._is_held:
            raise StopNowError
