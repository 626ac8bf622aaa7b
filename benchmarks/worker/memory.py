"""Peak memory of this process. Standard library only."""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contract.device import is_host
from benchmarks.contract.framework import Framework


@dataclass(frozen=True)
class PeakMemory:
    """A peak and its source; peaks of different sources do not compare."""

    num_bytes: int | None
    source: str


def reset_host_peak() -> bool:
    """Reset the peak of resident memory; False if the system cannot (it is the process's then).

    Memory that malloc still keeps from the proof of the first step is released first.
    """
    with suppress(AttributeError, OSError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak(framework: Framework, *, device: str, was_reset: bool) -> PeakMemory:
    """The device allocator's peak on an accelerator, else this process's resident peak."""
    if not is_host(device):
        return PeakMemory(framework.peak_memory_bytes(), "device allocator")
    status = Path("/proc/self/status")
    if status.exists():
        label = "resident peak while measuring" if was_reset else "resident peak of the process"
        return PeakMemory(_status_bytes(status.read_text(), "VmHWM"), label)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return PeakMemory(usage * unit, "resident peak of the process")


def _status_bytes(status: str, key: str) -> int | None:
    for line in status.splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None
