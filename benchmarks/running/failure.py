"""How a launch that failed without a message of its own is named."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failure:
    """A status of contract.record.STATUSES, one line for people, and the phase it happened in."""

    status: str
    reason: str
    phase: str


def of_death(returncode: int | None, *, phase: str, word: str, num_oom_kills: int) -> Failure:
    """The failure of a worker that is gone.

    `returncode` is the process's own, None where it had to be killed; `word` is what the parent
    saw of it; `num_oom_kills` is how many processes the kernel killed for memory meanwhile.
    """
    if returncode is None:
        return Failure("crashed", f"{word}, and had to be killed", phase)
    if returncode == -signal.SIGKILL:
        if num_oom_kills > 0:
            return Failure("oom_host", "the kernel killed it: the machine is out of memory", phase)
        return Failure("killed", "killed by SIGKILL from outside", phase)
    if returncode < 0:
        return Failure("crashed", f"died by {_signal_name(-returncode)} in phase {phase}", phase)
    return Failure("crashed", f"{word} (exit code {returncode})", phase)


def num_oom_kills(root: Path = Path("/")) -> int:
    """Processes that the kernel has killed for want of memory, as this process can see it."""
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
