"""The fence's self-test, which asks whether waiting waits.

A fence that returns early makes every number wrong, and nothing else shows it: so each launch
tests it on work of known size, and on its own program. NumPy and the contract only.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.workload import Arrays

MATMUL_SECONDS = 0.02
MATMUL_MARGIN = 1.2
"""Times that the next size is to last, for a rate that is not measured well."""
SIZE_STEP = 256
"""Coarse, so that launches of one case seldom differ, and find the product in the cache."""
MIN_SIZE, MAX_SIZE = 128, 16384
NUM_PAIRS = 9
NUM_READ_BACKS = 3
NUM_TRIES = 3
"""A fence that returns early does so each time; other work on the machine comes and goes."""
MIN_DOUBLING = 1.5
"""Ratio of twice the work to once the work; noisy machines reach 1.8, early fences 1.0."""
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
class FenceReport:
    """What the self-test on matrix products found."""

    fence_s: float
    """Seconds of an empty fence, median of 50."""
    matmul_size: int
    doubling: float
    """Shortest time of two dependent products / shortest time of one: noise only adds to either."""
    leftover_s: float
    """Seconds by which reading back right after a fence exceeds reading back later, median."""
    roof_flop_per_s: float
    """Rate of the fastest product: the measured roof at this precision."""
    failure: str | None


def check_matmul(framework: Framework) -> FenceReport:
    """The self-test on dependent matrix products of about 20 ms each.

    A fence fails that failed in each of `NUM_TRIES` tries; the report is the last one's.
    """
    size, a, b = _choose_size(framework)
    fence_s = _fence_seconds(framework, a)
    roof_flop_per_s = 0.0
    for _ in range(NUM_TRIES):
        single_s, double_s, leftover_s = _time_products(framework, a, b)
        doubling = double_s / single_s
        roof_flop_per_s = max(roof_flop_per_s, 2 * size**3 / single_s)
        failure = _matmul_failure(doubling, leftover_s, 2 * single_s)
        if failure is None:
            break
    return FenceReport(fence_s, size, doubling, leftover_s, roof_flop_per_s, failure)


def _time_products(framework: Framework, a: Any, b: Any) -> tuple[float, float, float]:
    """The shortest seconds of one product and of two dependent ones, and the median leftover.

    They alternate: what slows the machine for a while slows both.
    """
    singles, doubles, leftovers = [], [], []
    for index in range(NUM_PAIRS):
        single_s, earlier = _chain_seconds(framework, a, b, 1)
        double_s, product = _chain_seconds(framework, a, b, 2)
        if index < NUM_READ_BACKS:  # the second reading finds nothing left to compute
            leftovers.append(_read_seconds(framework, product) - _read_seconds(framework, earlier))
        singles.append(single_s)
        doubles.append(double_s)
    return min(singles), min(doubles), statistics.median(leftovers)


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


def _choose_size(framework: Framework) -> tuple[int, Any, Any]:
    """A size whose product lasts long enough, and little longer.

    Here the product is read back, which waits whatever the fence does: were a fence that returns
    early believed, the products would grow without end.
    """
    size = MIN_SIZE
    while True:
        a, b = _operands(framework, size)
        _read_back_seconds(framework, a, b, 1)  # compiles, where the framework compiles
        seconds = _product_seconds(framework, a, b)
        if seconds >= MATMUL_SECONDS or size >= MAX_SIZE:
            return size, a, b
        size = min(MAX_SIZE, _next_size(size, seconds))


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


def _chain_seconds(framework: Framework, a: Any, b: Any, length: int) -> tuple[float, Any]:
    framework.wait(a)
    begin = time.perf_counter()
    product = a
    for _ in range(length):
        product = framework.matmul(product, b)
    framework.wait(product)
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


def _matmul_failure(doubling: float, leftover_s: float, block_s: float) -> str | None:
    if doubling < MIN_DOUBLING:
        return (
            f"two dependent matrix products took {doubling:.2f} times one"
            f" (at least {MIN_DOUBLING} expected): the fence does not wait"
        )
    if leftover_s > NOISE_S and leftover_s > MAX_LEFTOVER * block_s:
        return (
            f"reading a product after the fence took {leftover_s * 1e3:.1f} ms longer than reading"
            " it again: the fence does not wait"
        )
    return None
