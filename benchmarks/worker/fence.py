"""The fence's self-test, which asks whether waiting waits.

A fence that returns early makes every number wrong, and nothing else shows it: so each launch
tests it on work of known size, and on its own program. NumPy and the contract only.
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
"""Times that the next size is to last, for a rate that is not measured well."""
SIZE_STEP = 256
"""Coarse, so that launches of one case seldom differ, and find the product in the cache."""
MIN_SIZE, MAX_SIZE = 128, 8192
"""Where the largest is too little, more are chained: reading back a larger would last longer."""
MAX_CHAIN = 64
NUM_PAIRS, NUM_READINGS, MAX_EACH = 5, 4, 20
"""Tries without and with reading back; more only while they fail, up to so many of each."""
NUM_READ_BACKS = 3
"""Tries of a program's own block."""
MIN_DOUBLING, MAX_DOUBLING = 1.25, 4.0
"""Ratio of twice the work to once the work: 1.0 where nothing is waited for or computed. Where
threads must be woken on processors that others keep busy, once takes longer: 1.39 was seen."""
MAX_LEFTOVER = 0.5
"""Share of a block that may remain to be done after its fence, where more than 5 ms."""
NOISE_S = 0.005
MAX_READ_BYTES = 2**28
"""Of a program's state, read back each time beside one array of each kind."""


class Stepping(Protocol):
    """What is tested of a program."""

    def step(self) -> Any:
        """Enqueue one step; what to wait for."""

    def read(self) -> Arrays:
        """What the program holds."""


@dataclass(frozen=True)
class _Work:
    """Dependent products of known work: a chain of `length`, and of twice as many."""

    framework: Framework
    size: int
    a: Any
    b: Any
    length: int


@dataclass
class _Times:
    """Seconds of the products, one for each try: other work on the machine only adds to them."""

    singles: list[float] = field(default_factory=list)
    """Of once the work to its fence, nothing being read back meanwhile: a device may clock down."""
    doubles: list[float] = field(default_factory=list)
    """Of twice the work to its fence, by turns with the singles."""
    fenced: list[float] = field(default_factory=list)
    """Of twice the work to its fence, before it is read back."""
    finished: list[float] = field(default_factory=list)
    """The same until its result is read back, which waits whatever the fence does."""
    reads: list[float] = field(default_factory=list)
    """Of reading back a result that is long there."""

    @property
    def doubling(self) -> float:
        """The shortest time of twice the work by the shortest time of once."""
        return min(self.doubles) / min(self.singles)

    @property
    def done_s(self) -> float:
        """The time of twice the work by its reading, less that of reading alone."""
        return min(self.finished) - min(self.reads)

    @property
    def leftover_s(self) -> float:
        """How much of it was left when a fence returned earliest.

        Of what was not read back twice the time counts: the device may have run at a higher clock.
        """
        earliest_s = min(*self.fenced, 2 * min(self.doubles), 4 * min(self.singles))
        return max(0.0, self.done_s - earliest_s)

    @property
    def doubling_failure(self) -> str | None:
        """Why twice the work is not twice the time, or None."""
        if MIN_DOUBLING <= self.doubling <= MAX_DOUBLING:
            return None
        return (
            f"twice as many dependent matrix products took {self.doubling:.2f} times as long"
            f" ({MIN_DOUBLING} to {MAX_DOUBLING} expected): the fence does not wait"
        )

    @property
    def leftover_failure(self) -> str | None:
        """Why the fence did not wait for what was then read, or None."""
        if self.leftover_s <= max(NOISE_S, MAX_LEFTOVER * self.done_s):
            return None
        return (
            f"after the fence, {self.leftover_s * 1e3:.1f} ms of matrix products"
            f" that take {self.done_s * 1e3:.1f} ms were still to be computed:"
            " the fence does not wait"
        )


def check_matmul(framework: Framework) -> FenceReport:
    """The self-test on dependent matrix products of about 20 ms, and on twice as many.

    A fence fails that once returned before half of the work was done (a quarter, where it was not
    read back). Tries beyond the first few clear it of other work's traces: they shorten minima.
    """
    work = _choose_work(framework)
    times = _time_products(work)
    while times.done_s < MATMUL_SECONDS and (more := _more(work)):  # on too little, no fence fails
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
        _, earlier = _chain_seconds(work, work.length)  # each is read once: a copy may be kept
        fenced_s, product = _chain_seconds(work, 2 * work.length)
        times.fenced.append(fenced_s)
        times.finished.append(fenced_s + _read_seconds(work.framework, product))
        times.reads.append(_read_seconds(work.framework, earlier))
    return times


def check_program(program: Stepping, framework: Framework, *, num_steps: int) -> float:
    """The share of a block of this program that was still to be done when its fence returned.

    Reading back right after the fence must take no longer than reading back once the device has
    had time to finish; the smallest of three tries counts, since noise only adds.
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
    # Whatever a fence that lies left over, the early reading waited for: as much time is enough.
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

    One by one: what holds gigabytes returns arrays that are not fetched yet (`Reading`). A kind is
    a name's first part: of a step the loss is there before the weights and their moments are.
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
    """Products of this size or a greater one that last long enough, and little longer.

    Here the product is read back, which waits whatever the fence does: were a fence that returns
    early believed, the products would grow without end.
    """
    while True:
        a, b = _operands(framework, size)
        _read_back_seconds(framework, a, b, 1)  # compiles, where the framework compiles
        seconds = _product_seconds(framework, a, b)
        if seconds >= MATMUL_SECONDS or size >= MAX_SIZE:
            length = MATMUL_SECONDS / max(seconds, MATMUL_SECONDS / MAX_CHAIN)
            return _Work(framework, size, a, b, math.ceil(length))
        size = min(MAX_SIZE, _next_size(size, seconds))


def _more(work: _Work) -> _Work | None:
    """About twice the work or more, if there is any: other work had made this seem enough."""
    if work.size < MAX_SIZE:
        return _choose_work(work.framework, min(MAX_SIZE, 2 * work.size))
    length = min(MAX_CHAIN, 2 * work.length)
    return dataclasses.replace(work, length=length) if length > work.length else None


def _next_size(size: int, seconds: float) -> int:
    """Twice the size while a product is too short to tell; then what its rate promises."""
    if seconds < MATMUL_SECONDS / 16:
        return 2 * size
    promised = size * math.pow(MATMUL_MARGIN * MATMUL_SECONDS / seconds, 1 / 3)
    return min(2 * size, math.ceil(promised / SIZE_STEP) * SIZE_STEP)


def _product_seconds(framework: Framework, a: Any, b: Any) -> float:
    """Seconds of one product, from chains of 5 and of 1, whose dispatch and read-back cancel."""
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
