"""The load of other processes on the CPUs of a launch, while the launch tests something.

The parent watches the turns (`host.disturbance`); a self-test judges itself. Time is read from
`time.monotonic`. Standard library only.
"""

from __future__ import annotations

import os
import sys
import time

MAX_SHARE = 0.10
"""Share of our CPUs' time that others may take in a test that counts as undisturbed."""
MAX_CORES = 1.0
"""The same limit in cores."""
_BUSY_FIELDS = (1, 2, 3, 6, 7, 8)
"""user, nice, system, irq, softirq and steal in a line of /proc/stat (proc(5))."""


class OtherLoad:
    """CPU time of all other processes, from the moment at which this was made."""

    def __init__(self) -> None:
        self._cpus = _our_cpus()
        self._begin_s = time.monotonic()
        self._busy_s = _busy_s(self._cpus)
        self._own_s = time.process_time()

    @property
    def share(self) -> float | None:
        """Their share of our CPUs' time, 0 to 1; None if the system does not say (macOS).

        The counters advance in ticks, usually of 10 ms: two ticks are subtracted for rounding.
        """
        busy_s, available_s = _busy_s(self._cpus), time.monotonic() - self._begin_s
        if busy_s is None or self._busy_s is None or available_s <= 0:
            return None
        own_s = time.process_time() - self._own_s
        others_s = busy_s - self._busy_s - own_s - 2 / os.sysconf("SC_CLK_TCK")
        return min(1.0, max(0.0, others_s / (available_s * len(self._cpus))))

    @property
    def disturbs(self) -> bool | None:
        """Whether others took so much that a test proves nothing; None if that is not known."""
        share = self.share
        return None if share is None else share > min(MAX_SHARE, MAX_CORES / len(self._cpus))

    def __str__(self) -> str:
        """The load for people."""
        share = self.share
        if share is None:
            return "the system does not say how busy the machine is"
        return f"other processes took {share:.0%} of its CPUs' time"


def _our_cpus() -> frozenset[int]:
    if sys.platform == "linux":
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _busy_s(cpus: frozenset[int]) -> float | None:
    names = {f"cpu{number}" for number in cpus}
    try:
        with open("/proc/stat", encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("cpu")]
    except OSError:
        return None
    found = [fields for fields in lines if fields[0] in names]
    if len(found) < len(names):
        return None
    ticks = sum(int(fields[i]) for fields in found for i in _BUSY_FIELDS if i < len(fields))
    return ticks / os.sysconf("SC_CLK_TCK")
