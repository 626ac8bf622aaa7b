"""The timed block, and the clock.

Inside the timed region: step, wait, read the clock; of a request also what brings its answer to the
host. Nothing else. Standard library and the contract only.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Program, RequestProgram

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
    request_ns: tuple[int, ...] = ()
    """Of requests the duration of each."""
    answers: tuple[np.ndarray, ...] = ()
    """Of requests the answer to each, on the host."""


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


def time_requests(
    program: RequestProgram,
    framework: Framework,
    *,
    num_requests: int,
    previous: Any,
    rewarm: bool,
) -> BlockTime:
    """The duration of each of num_requests requests, one in flight at a time.

    A request lasts from its step until its answer is on the host, which is its fence: copying waits
    for what it copies. What comes before it, such as the prompt whose continuation is timed, and
    what it leaves behind are waited for outside of it. With `rewarm` one request goes untimed
    before the others.
    """
    wait, get, now = framework.wait, framework.get, time.perf_counter_ns
    prepare, step = program.prepare, program.step
    fence_begins = now()
    wait(previous)
    opening_fence_ns = now() - fence_begins
    if rewarm:
        wait(prepare())
        get(step())
    durations_ns, answers = [], []
    gc.disable()
    slept = _asleep_ns()
    for _ in range(num_requests):
        wait(prepare())
        begin = now()
        outputs = step()
        answer = get(outputs)
        durations_ns.append(now() - begin)
        wait(outputs)
        answers.append(answer)
    slept = _asleep_ns() - slept
    gc.enable()
    return BlockTime(
        sum(durations_ns),
        opening_fence_ns,
        slept > SUSPENDED_NS,
        outputs,
        tuple(durations_ns),
        tuple(answers),
    )


def _asleep_ns() -> int:
    """Nanoseconds that the machine has slept since boot, where the system tells."""
    if not hasattr(time, "CLOCK_BOOTTIME"):  # macOS: perf_counter goes on during sleep
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
