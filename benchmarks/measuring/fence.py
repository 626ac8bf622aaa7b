"""The fence's self-test, which asks whether waiting waits.

A fence that returns early makes every number wrong, and nothing else shows it: so each launch
tests it on work of known size, and on its own program. NumPy and the contract only.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
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
NUM_PAIRS, MAX_PAIRS = 5, 20
"""Of one product and two; there are more only where other work may be in the way of the first."""
NUM_READ_BACKS = 3
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
    """Seconds of two products that were left when a fence returned earliest, 0 if none."""
    roof_flop_per_s: float
    """Rate of the fastest product: the measured roof at this precision."""
    failure: str | None


@dataclass
class _Products:
    """Seconds of the products in each pair. Other work on the machine only adds to any of them."""

    singles: list[float] = field(default_factory=list)
    """Of one product, to its fence."""
    doubles: list[float] = field(default_factory=list)
    """Of two dependent ones, to their fence."""
    read_doubles: list[float] = field(default_factory=list)
    """The same until their result is read back, which waits whatever the fence does."""
    reads: list[float] = field(default_factory=list)
    """Of reading back a result that is long there."""

    @property
    def doubling(self) -> float:
        """The shortest time of two dependent products by the shortest time of one."""
        return min(self.doubles) / min(self.singles)

    @property
    def done_s(self) -> float:
        """The shortest time in which two dependent products are known to have been computed."""
        return min(self.read_doubles) - min(self.reads)

    @property
    def leftover_s(self) -> float:
        """How much of it was left when a fence returned earliest; twice, where of one product."""
        return max(0.0, self.done_s - min(*self.doubles, 2 * min(self.singles)))

    @property
    def failure(self) -> str | None:
        """Why the fence cannot be trusted, or None."""
        if self.doubling < MIN_DOUBLING:
            return (
                f"two dependent matrix products took {self.doubling:.2f} times one"
                f" (at least {MIN_DOUBLING} expected): the fence does not wait"
            )
        if self.leftover_s > max(NOISE_S, MAX_LEFTOVER * self.done_s):
            return (
                f"after the fence, {self.leftover_s * 1e3:.1f} ms of two matrix products"
                f" that take {self.done_s * 1e3:.1f} ms were still to be computed:"
                " the fence does not wait"
            )
        return None

    def add(self, framework: Framework, a: Any, b: Any) -> None:
        """Time one product and two dependent ones, and the reading of their result."""
        single_s, earlier = _chain_seconds(framework, a, b, 1)
        double_s, product = _chain_seconds(framework, a, b, 2)
        self.singles.append(single_s)
        self.doubles.append(double_s)
        self.read_doubles.append(double_s + _read_seconds(framework, product))
        self.reads.append(_read_seconds(framework, earlier))  # there is nothing left to compute


def check_matmul(framework: Framework) -> FenceReport:
    """The self-test on dependent matrix products of about 20 ms each.

    A fence that returned early even once fails. More pairs than the first clear it of what other
    work did to those, and of nothing else: no reading finds two products done sooner.
    """
    size, a, b = _choose_size(framework, MIN_SIZE)
    products = _time_products(framework, a, b)
    while products.done_s < MATMUL_SECONDS and size < MAX_SIZE:  # on too little, no fence fails
        size, a, b = _choose_size(framework, 2 * size)  # other work had made it seem enough
        products = _time_products(framework, a, b)
    return FenceReport(
        fence_s=_fence_seconds(framework, a),
        matmul_size=size,
        doubling=products.doubling,
        leftover_s=products.leftover_s,
        roof_flop_per_s=2 * size**3 / min(*products.singles, min(products.doubles) / 2),
        failure=products.failure,
    )


def _time_products(framework: Framework, a: Any, b: Any) -> _Products:
    products = _Products()
    while len(products.doubles) < NUM_PAIRS or (
        products.failure and len(products.doubles) < MAX_PAIRS
    ):
        products.add(framework, a, b)
    return products


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


def _choose_size(framework: Framework, size: int) -> tuple[int, Any, Any]:
    """A size, this or a greater one, whose product lasts long enough, and little longer.

    Here the product is read back, which waits whatever the fence does: were a fence that returns
    early believed, the products would grow without end.
    """
    size = min(MAX_SIZE, size)
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
