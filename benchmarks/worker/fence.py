"""The fence's self-test: checks that `Framework.wait` blocks until queued work has finished.

A fence that returns early makes every number wrong, and nothing else would show it. So each launch
tests its fence on matmuls of known size and on its own program. NumPy and the contract only.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.contract.evidence import FenceReport
from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays

MATMUL_SECONDS = 0.02
MATMUL_MARGIN = 1.2
"""Factor on the duration aimed at by the next size, because the rate is only roughly known."""
SIZE_STEP = 256
"""Coarse, so that launches of one case mostly use the same size and find its matmul compiled."""
MIN_SIZE, MAX_SIZE = 128, 8192
"""If one matmul of MAX_SIZE is too short, several are chained: reading back a larger matrix would
take longer."""
MAX_CHAIN = 64
NUM_PAIRS, NUM_READINGS, MAX_EACH = 5, 4, 20
"""Tries without and with reading back; while they fail, each is repeated up to MAX_EACH times."""
NUM_READ_BACKS = 3
"""Tries on a block of the program."""
MIN_DOUBLING, MAX_DOUBLING = 1.25, 4.0
"""Accepted range of time(2 n matmuls) / time(n matmuls). About 1.0: the fence does not wait. On a
busy machine thread wake-up lengthens the short run; 1.39 was observed."""
MAX_LEFTOVER = 0.5
"""Largest share of a block that may remain to be computed after its fence; up to NOISE_S may
always remain."""
NOISE_S = 0.005
MAX_READ_BYTES = 2**28
"""Bytes of a program's state that are read back, beside one array of each kind."""


class Stepping(Protocol):
    """The part of a program that the fence's test needs."""

    def step(self) -> Any:
        """Enqueue one step and return the values to wait for."""

    def read(self) -> Arrays:
        """The arrays that the program holds."""


@dataclass(frozen=True)
class _Work:
    """The operands of a chain of `length` dependent matmuls, and of a chain twice as long."""

    framework: Framework
    size: int
    a: Any
    b: Any
    length: int


@dataclass
class _Times:
    """Seconds of the chains, one entry for each try: other load on the machine only adds time."""

    singles: list[float] = field(default_factory=list)
    """Short chain until its fence. Nothing is read back in between: a device may clock down."""
    doubles: list[float] = field(default_factory=list)
    """Long chain until its fence, measured in turns with the singles."""
    fenced: list[float] = field(default_factory=list)
    """Long chain until its fence, in the tries whose result is then read back."""
    finished: list[float] = field(default_factory=list)
    """The same tries until the result is read back: reading waits even if the fence does not."""
    reads: list[float] = field(default_factory=list)
    """Reading back a result that was computed long before."""

    @property
    def doubling(self) -> float:
        """The shortest time of the long chain divided by that of the short chain."""
        return min(self.doubles) / min(self.singles)

    @property
    def done_s(self) -> float:
        """The time of the long chain by reading back: `finished` less the reading alone."""
        return min(self.finished) - min(self.reads)

    @property
    def leftover_s(self) -> float:
        """Seconds of the long chain that were left when the earliest fence returned.

        Tries without reading back count with twice their time: the device may have run at a higher
        clock.
        """
        earliest_s = min(*self.fenced, 2 * min(self.doubles), 4 * min(self.singles))
        return max(0.0, self.done_s - earliest_s)

    @property
    def doubling_failure(self) -> str | None:
        """Why the ratio of the times shows a fence that does not wait, or None."""
        if MIN_DOUBLING <= self.doubling <= MAX_DOUBLING:
            return None
        return (
            f"twice as many dependent matmuls took {self.doubling:.2f} times as long"
            f" ({MIN_DOUBLING} to {MAX_DOUBLING} expected): the fence does not wait"
        )

    @property
    def leftover_failure(self) -> str | None:
        """Why the reading back shows a fence that does not wait, or None."""
        if self.leftover_s <= max(NOISE_S, MAX_LEFTOVER * self.done_s):
            return None
        return (
            f"after the fence, {self.leftover_s * 1e3:.1f} ms of matmuls"
            f" that take {self.done_s * 1e3:.1f} ms were still to be computed:"
            " the fence does not wait"
        )


def check_matmul(framework: Framework) -> FenceReport:
    """The self-test on a chain of dependent matmuls of about 20 ms, and on one twice as long.

    The fence fails if it once returned before half of the work was done (a quarter in the tries
    without reading back). Failing tries are repeated, since only minima count: other load on the
    machine then does not fail an honest fence.
    """
    work = _choose_work(framework)
    times = _time_products(work)
    while times.done_s < MATMUL_SECONDS and (more := _more(work)):  # too short to fail any fence
        work, times = more, _time_products(more)
    once_s = min(*times.singles, min(times.doubles) / 2)
    return FenceReport(
        fence_s=_fence_seconds(framework, work.a),
        matmul_size=work.size,
        num_products=work.length,
        doubling=times.doubling,
        leftover_s=times.leftover_s,
        roof_flop_per_s=2 * work.size**3 * work.length / once_s,
        failure=times.doubling_failure or times.leftover_failure,
    )


def _time_products(work: _Work) -> _Times:
    times = _Times()
    while len(times.doubles) < NUM_PAIRS or (
        times.doubling_failure and len(times.doubles) < MAX_EACH
    ):
        times.singles.append(_chain_seconds(work, work.length)[0])
        times.doubles.append(_chain_seconds(work, 2 * work.length)[0])
    while len(times.finished) < NUM_READINGS or (
        times.leftover_failure and len(times.finished) < MAX_EACH
    ):
        _, earlier = _chain_seconds(work, work.length)  # a result is read once: a copy may be kept
        fenced_s, product = _chain_seconds(work, 2 * work.length)
        times.fenced.append(fenced_s)
        times.finished.append(fenced_s + _read_seconds(work.framework, product))
        times.reads.append(_read_seconds(work.framework, earlier))
    return times


def check_program(program: Stepping, framework: Framework, *, num_steps: int) -> float:
    """The share of a block of this program that was still to be computed when its fence returned.

    Reading back right after the fence must take no longer than reading back after a pause in which
    the device can finish. The smallest of three tries counts, since noise only adds time.
    """
    smallest = 1.0
    for _ in range(NUM_READ_BACKS):
        smallest = min(smallest, _leftover_share(program, framework, num_steps))
        if smallest <= MAX_LEFTOVER:
            break
    return smallest


def program_failure(leftover: float) -> str | None:
    """Why the program's fence cannot be trusted, or None."""
    if leftover <= MAX_LEFTOVER:
        return None
    return (
        f"after the fence, {leftover:.0%} of a block was still to be computed"
        f" (at most {MAX_LEFTOVER:.0%} expected)"
    )


def _leftover_share(program: Stepping, framework: Framework, num_steps: int) -> float:
    block_s, early_s = _block_then_read(program, framework, num_steps, idle_s=0.0)
    # The early reading waited for everything that the fence left over: a pause as long is enough.
    _, late_s = _block_then_read(program, framework, num_steps, idle_s=early_s)
    leftover_s = early_s - late_s
    if leftover_s <= NOISE_S:
        return 0.0
    return leftover_s / max(block_s, leftover_s)


def _block_then_read(
    program: Stepping, framework: Framework, num_steps: int, *, idle_s: float
) -> tuple[float, float]:
    begin = time.perf_counter()
    for _ in range(num_steps):
        outputs = program.step()
    framework.wait(outputs)
    fenced = time.perf_counter()
    time.sleep(idle_s)
    begin_read = time.perf_counter()
    _read_back(program)
    return fenced - begin, time.perf_counter() - begin_read


def _read_back(program: Stepping) -> None:
    """Fetch the first array of each kind that the program holds, then others up to a size.

    They are fetched one by one: a large program returns a `Reading`. The kind is the first part of
    a name. One of each is needed, since a step's loss is ready before its weights and moments.
    """
    state = program.read()
    names = list(state)
    firsts = {name.partition("/")[0]: name for name in reversed(names)}
    num_bytes = 0
    for name in sorted(names, key=lambda name: name not in firsts.values()):
        if name not in firsts.values() and num_bytes > MAX_READ_BYTES:
            break
        num_bytes += state[name].nbytes


def _choose_work(framework: Framework, size: int = MIN_SIZE) -> _Work:
    """A chain of matmuls of this size or a greater one that lasts MATMUL_SECONDS or little longer.

    Its time is taken by reading the result back: with a fence that returns early the matmuls would
    seem too short at any size.
    """
    while True:
        a, b = _operands(framework, size)
        _read_back_seconds(framework, a, b, 1)  # the first call may compile
        seconds = _product_seconds(framework, a, b)
        if seconds >= MATMUL_SECONDS or size >= MAX_SIZE:
            length = MATMUL_SECONDS / max(seconds, MATMUL_SECONDS / MAX_CHAIN)
            return _Work(framework, size, a, b, math.ceil(length))
        size = min(MAX_SIZE, _next_size(size, seconds))


def _more(work: _Work) -> _Work | None:
    """About twice the work, or None at the limit: other load had made this seem long enough."""
    if work.size < MAX_SIZE:
        return _choose_work(work.framework, min(MAX_SIZE, 2 * work.size))
    length = min(MAX_CHAIN, 2 * work.length)
    return dataclasses.replace(work, length=length) if length > work.length else None


def _next_size(size: int, seconds: float) -> int:
    """Twice the size if the time is too short to predict from; else the size that it predicts."""
    if seconds < MATMUL_SECONDS / 16:
        return 2 * size
    promised = size * math.pow(MATMUL_MARGIN * MATMUL_SECONDS / seconds, 1 / 3)
    return min(2 * size, math.ceil(promised / SIZE_STEP) * SIZE_STEP)


def _product_seconds(framework: Framework, a: Any, b: Any) -> float:
    """Seconds of one matmul: chains of 5 and of 1 compared, so that fixed costs cancel."""
    five_s, one_s = (
        min(_read_back_seconds(framework, a, b, length) for _ in range(2)) for length in (5, 1)
    )
    return (five_s - one_s) / 4


def _read_back_seconds(framework: Framework, a: Any, b: Any, length: int) -> float:
    begin = time.perf_counter()
    product = a
    for _ in range(length):
        product = framework.matmul(product, b)
    framework.get(product)
    return time.perf_counter() - begin


def _operands(framework: Framework, size: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    return framework.put(a), framework.put(b / np.float32(np.sqrt(size)))


def _chain_seconds(work: _Work, length: int) -> tuple[float, Any]:
    work.framework.wait(work.a)
    begin = time.perf_counter()
    product = work.a
    for _ in range(length):
        product = work.framework.matmul(product, work.b)
    work.framework.wait(product)
    return time.perf_counter() - begin, product


def _read_seconds(framework: Framework, value: Any) -> float:
    begin = time.perf_counter()
    framework.get(value)
    return time.perf_counter() - begin


def _fence_seconds(framework: Framework, value: Any) -> float:
    def once() -> float:
        begin = time.perf_counter()
        framework.wait(value)
        return time.perf_counter() - begin

    return statistics.median(once() for _ in range(50))
