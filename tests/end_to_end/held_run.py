"""A run that a test can hold at a place of its choice, so that no test depends on when it looks."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import dyno_cli as cli
import psutil

from benchmarks.storage.store import Store
from tests.fakes import extension as fakes


class HeldRun:
    """A run whose slow fake is held in a phase of its launch of this number, until it is let go."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], phase: str, *overrides: str, launch: int = 1
    ) -> None:
        self.store = folder / "runs"
        self.extension = fakes.write(folder)
        self._held = self.extension / "held"
        self._held.mkdir()
        self._phase, self._launch = phase, launch
        self._hold.touch()
        keys = {override.split("=")[0] for override in overrides}
        kept = [argument for argument in arguments if argument.split("=")[0] not in keys]
        self.parent = cli.start(
            "run", *kept, *overrides, store=self.store, extension=self.extension
        )

    def reach(self) -> None:
        """Return once the launch is held."""
        cli.wait_for(lambda: self.num_in(self._phase) == self._launch, f"phase {self._phase}")

    def num_in(self, phase: str) -> int:
        """How many launches of the slow fake have reached a phase."""
        arrivals = self._held / phase
        return arrivals.stat().st_size if arrivals.exists() else 0

    def let_go(self) -> None:
        """Hold no launch any more."""
        self._hold.unlink()

    def interrupt(self) -> None:
        """Send Ctrl-C, and return once it has been handled: two at once would be merged."""
        self.parent.send_signal(signal.SIGINT)
        pending = 1 << (signal.SIGINT - 1)
        cli.wait_for(lambda: not pending_signals(self.parent.pid) & pending, "the signal's arrival")
        cli.wait_for(lambda: is_asleep(self.parent.pid), "the end of its handling")

    @property
    def statuses(self) -> set[str]:
        """The statuses of the records that were kept."""
        return {record.status for record in Store(self.store).records()}

    @property
    def _hold(self) -> Path:
        return self._held / f"{self._phase}.{self._launch}"


def pending_signals(pid: int) -> int:
    """The signals that the process has not taken yet, as a mask."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("ShdPnd:")[2].split()[0], 16)


def is_asleep(pid: int) -> bool:
    """Whether the process waits for something."""
    return psutil.Process(pid).status() == psutil.STATUS_SLEEPING
