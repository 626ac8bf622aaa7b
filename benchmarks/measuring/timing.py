"""The timed block, and the clock.

Inside the timed region: step, wait, read the clock. Nothing else. Standard library only.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.contract.framework import Framework
from benchmarks.contract.workload import Program

SUSPENDED_NS = 100_000_000
"""Difference of the clocks with and without sleep above which the machine slept."""


@dataclass(frozen=True)
class BlockTime:
    """The clock's readings of one block."""

    duration_ns: int
    opening_fence_ns: int
    suspended: bool
    outputs: Any
    """What the last step returned, kept alive so that its release is not timed."""


def time_block(
    program: Program, framework: Framework, *, num_steps: int, previous: Any, rewarm: bool
) -> BlockTime:
    """The duration of num_steps steps between two fences.

    `previous` is what the last step before returned. With `rewarm`, one step goes untimed before
    the block, to bring caches and clocks back after another launch's turn.
    """
    wait, step, now = framework.wait, program.step, time.perf_counter_ns
    fence_begins = now()
    wait(previous)
    opening_fence_ns = now() - fence_begins
    if rewarm:
        previous = step()
        wait(previous)
    gc.disable()
    slept = _asleep_ns()
    begin = now()
    for _ in range(num_steps):
        outputs = step()
    wait(outputs)
    end = now()
    slept = _asleep_ns() - slept
    gc.enable()
    return BlockTime(end - begin, opening_fence_ns, slept > SUSPENDED_NS, outputs)


def _asleep_ns() -> int:
    """Nanoseconds that the machine has slept since boot, where the system tells."""
    if not hasattr(time, "CLOCK_BOOTTIME"):  # macOS: perf_counter goes on during sleep
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
