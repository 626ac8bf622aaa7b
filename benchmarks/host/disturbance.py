"""The conditions of a turn: what else the machine did while one launch was being timed.

A flag is a cause that was declared beforehand (contract.record.INVALIDATING_FLAGS); never a value
that looks wrong.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contract.message import BlockDone
from benchmarks.host import cpu_time, machine, nvidia

MAX_FOREIGN_SHARE = 0.10
"""Share of our CPUs' time that others may take during a turn."""
MAX_FOREIGN_CORES = 1.0
"""Cores' worth of it: on many cores one that is taken holds up every barrier of the others."""
MAX_THROTTLED_SHARE = 0.01
"""Share of a turn that the CPU quota may hold us back."""
CLOCK_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Conditions:
    """What the machine did during one turn."""

    foreign_cpu_share: float | None
    flags: tuple[str, ...]


class Watch:
    """Counters read at the start of a turn, to be compared at its end."""

    def __init__(self, group: int, *, num_on_accelerator: int = 0) -> None:
        """Begin to watch; `group` is the launch's process group.

        `num_on_accelerator` counts our launches that hold the accelerator, 0 for a turn on CPU.
        """
        self._group = group
        self._num_on_accelerator = num_on_accelerator
        self._cpus = _our_cpus()
        self._begin = self._read()

    def conditions(self, done: BlockDone) -> Conditions:
        """What happened since this watch was started, and what the worker reports."""
        end = self._read()
        elapsed_ns = end.clock_ns - self._begin.clock_ns
        share = _foreign_share(self._begin, end, elapsed_ns * len(self._cpus))
        throttled_ns = _difference(self._begin.throttled_ns, end.throttled_ns)
        flags = []
        if share is not None and share > min(
            MAX_FOREIGN_SHARE, MAX_FOREIGN_CORES / len(self._cpus)
        ):
            flags.append("FOREIGN_LOAD")
        if throttled_ns is not None and throttled_ns > MAX_THROTTLED_SHARE * elapsed_ns:
            flags.append("CPU_QUOTA")
        if done.num_compilations:
            flags.append("RECOMPILED")
        if done.suspended:
            flags.append("SUSPENDED")
        if _difference(self._begin.swapped_in, end.swapped_in):
            flags.append("SWAP")
        if self._num_on_accelerator:
            flags += accelerator_flags(nvidia.states(), self._num_on_accelerator)
        return Conditions(share, tuple(flags))

    def _read(self) -> _Counters:
        return _Counters(
            clock_ns=time.perf_counter_ns(),
            busy_ns=cpu_time.busy_ns(self._cpus),
            ours_ns=cpu_time.group_cpu_ns(self._group),
            parent_ns=time.process_time_ns(),
            throttled_ns=machine.cgroup_throttled_ns(),
            swapped_in=cpu_time.num_pages_swapped_in(),
        )


def accelerator_flags(states: Sequence[Mapping[str, Any]], num_ours: int) -> list[str]:
    """The flags of the accelerators' states right after a block.

    A foreign process is told by number, since a container does not see the others' process ids.
    """
    flags = []
    if any(state["throttle_reasons"] for state in states):
        flags.append("THROTTLED")
    if any((state["num_processes"] or 0) > num_ours for state in states):
        flags.append("FOREIGN_GPU")
    return flags


@dataclass(frozen=True)
class _Counters:
    clock_ns: int
    busy_ns: int | None
    ours_ns: int | None
    parent_ns: int
    throttled_ns: int | None
    swapped_in: int | None


def _difference(begin: int | None, end: int | None) -> int | None:
    return None if begin is None or end is None else end - begin


def _our_cpus() -> list[int]:
    """The CPUs that we and our launches may use: what others do elsewhere is no disturbance."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _foreign_share(begin: _Counters, end: _Counters, available_ns: int) -> float | None:
    """Busy time of our CPUs less our own, over their time; None where it cannot be told.

    The counters advance in ticks, 10 ms as a rule: two of them are taken for rounding.
    """
    busy_ns = _difference(begin.busy_ns, end.busy_ns)
    ours_ns = _difference(begin.ours_ns, end.ours_ns)
    if busy_ns is None or ours_ns is None or available_ns <= 0:
        return None
    foreign_ns = busy_ns - ours_ns - (end.parent_ns - begin.parent_ns) - 2 * CLOCK_TICK_NS
    return max(0.0, foreign_ns / available_ns)
