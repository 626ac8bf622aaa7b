"""The timed block, and the clock.

Inside the timed region: step, wait, read the clock. For a request also the copy of its answer to
the host. Nothing else. Standard library and the contract only.
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
"""If the clocks with and without sleep differ by more, the machine slept."""


@dataclass(frozen=True)
class BlockTime:
    """The clock's readings of one block."""

    duration_ns: int
    opening_fence_ns: int
    suspended: bool
    outputs: Any
    """The value that the last step returned, kept alive so that its release is not timed."""
    request_ns: tuple[int, ...] = ()
    """The duration of each request, if the block is of requests."""
    answers: tuple[np.ndarray, ...] = ()
    """The answer to each request, on the host."""
    rewarming: tuple[np.ndarray, ...] = ()
    """The answer to the untimed request before the block, if there was one."""
    preparation_ns: int = 0
    """The time in which the requests were prepared, that of the untimed one with it."""


def time_block(
    program: Program, framework: Framework, *, num_steps: int, previous: Any, rewarm: bool
) -> BlockTime:
    """The duration of num_steps steps between two fences.

    `previous` is the value that the step before the block returned. With `rewarm`, one untimed step
    precedes the block, to warm caches and clocks up after another launch's turn.
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

    A request lasts from its step until its answer is on the host. The copy is its fence: copying
    waits for the answer. The clock is stopped for work before it, such as the prompt of a decoded
    sequence, and for work that it leaves queued. With `rewarm` one untimed request comes first.
    """
    wait, get, now = framework.wait, framework.get, time.perf_counter_ns
    prepare, step = program.prepare, program.step
    fence_begins = now()
    wait(previous)
    opening_fence_ns = now() - fence_begins
    rewarming = []
    preparation_ns = 0
    if rewarm:
        begin_preparation = now()
        wait(prepare())
        preparation_ns = now() - begin_preparation
        rewarming.append(get(step()))
    durations_ns, answers = [], []
    gc.disable()
    slept = _asleep_ns()
    for _ in range(num_requests):
        begin_preparation = now()
        wait(prepare())
        begin = now()
        preparation_ns += begin - begin_preparation
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
        tuple(rewarming),
        preparation_ns,
    )


def _asleep_ns() -> int:
    """Nanoseconds that the machine has slept since boot; 0 if the system does not say."""
    if not hasattr(time, "CLOCK_BOOTTIME"):  # macOS: perf_counter goes on during sleep
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
