"""Statuses and reasons for launches that die without sending a message."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failure:
    """A status of contract.record.STATUSES, one line for people, and the phase of the failure."""

    status: str
    reason: str
    phase: str


def of_death(returncode: int | None, *, phase: str, word: str, num_oom_kills: int) -> Failure:
    """The failure of a worker that has ended.

    `returncode` is its exit code, None if the parent had to kill it. `word` says what the parent
    observed. `num_oom_kills` counts processes that the kernel killed for memory meanwhile.
    """
    if returncode is None:
        return Failure("crashed", f"{word}, and had to be killed", phase)
    if returncode == -signal.SIGKILL:
        if num_oom_kills > 0:
            return Failure("oom_host", "killed by the kernel: out of memory", phase)
        return Failure("killed", "killed by SIGKILL from outside", phase)
    if returncode < 0:
        return Failure("crashed", f"died by {_signal_name(-returncode)} in phase {phase}", phase)
    return Failure("crashed", f"{word} (exit code {returncode})", phase)


def num_oom_kills(root: Path = Path("/")) -> int:
    """Number of processes that the kernel has killed for lack of memory, as far as visible."""
    total = 0
    for name in ("sys/fs/cgroup/memory.events", "proc/vmstat"):
        with suppress(OSError):
            for line in (root / name).read_text().splitlines():
                key, _, value = line.partition(" ")
                total += int(value) if key == "oom_kill" else 0
    return total


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
