"""The timed block, its samples, and the clock.

Inside the timed region: step, wait, read the clock, append. For a request also the copy of its
answer to the host. Nothing else. Standard library and the contract only.
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
    sample_ns: tuple[int, ...] = ()
    """The duration of each sample: equally many steps, or one request. Their sum is the block's."""
    answers: tuple[np.ndarray, ...] = ()
    """The answer to each request, on the host."""
    preparation_ns: int = 0
    """The time in which the requests were prepared."""


def time_block(
    program: Program,
    framework: Framework,
    *,
    num_steps: int,
    previous: Any,
    steps_per_sample: int | None = None,
) -> BlockTime:
    """The duration of num_steps steps between two fences, and that of each sample of them.

    `previous` is the value that the step before the block returned. A sample is `steps_per_sample`
    steps, with a fence at its end; None: the block is one sample. Its steps must fill samples.
    """
    per_sample = steps_per_sample or num_steps
    wait, step, now = framework.wait, program.step, time.perf_counter_ns
    fence_begins = now()
    wait(previous)
    opening_fence_ns = now() - fence_begins
    times = []
    gc.disable()
    slept = _asleep_ns()
    times.append(now())
    for _ in range(num_steps // per_sample):
        for _ in range(per_sample):
            outputs = step()
        wait(outputs)
        times.append(now())
    slept = _asleep_ns() - slept
    gc.enable()
    samples_ns = tuple(end - begin for begin, end in zip(times, times[1:]))
    return BlockTime(sum(samples_ns), opening_fence_ns, slept > SUSPENDED_NS, outputs, samples_ns)


def time_requests(
    program: RequestProgram,
    framework: Framework,
    *,
    num_requests: int,
    previous: Any,
) -> BlockTime:
    """The duration of each of num_requests requests, one in flight at a time.

    A request lasts from its step until its answer is on the host. The copy is its fence: copying
    waits for the answer. The clock is stopped for work before it, such as the prompt of a decoded
    sequence, and for work that it leaves queued.
    """
    wait, get, now = framework.wait, framework.get, time.perf_counter_ns
    prepare, step = program.prepare, program.step
    fence_begins = now()
    wait(previous)
    opening_fence_ns = now() - fence_begins
    preparation_ns = 0
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
        preparation_ns,
    )


def _asleep_ns() -> int:
    """Nanoseconds that the machine has slept since boot; 0 if the system does not say."""
    if not hasattr(time, "CLOCK_BOOTTIME"):  # macOS: perf_counter goes on during sleep
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
