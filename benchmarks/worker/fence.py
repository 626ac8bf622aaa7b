"""The fence's self-test: checks that `Framework.wait` blocks until queued work has finished.

A fence that returns early makes every number wrong, and nothing else would show it. So each launch
tests its fence on matmuls of known size and on its own program.

A test ends in one of three ways. It passes: minima show that the fence waits, whatever else ran. It
fails: the fence was seen to return early. Or other load left it undetermined, which says nothing
about the framework. Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.contract.evidence import FenceReport
from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays
from benchmarks.worker.other_load import OtherLoad

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
MAX_ATTEMPTS = 4
"""Attempts at the matmuls' test while it is undetermined, each with a size that suits the last."""
MIN_SHARE_OF_TARGET = 0.25
"""If the fastest short chain takes a smaller share of MATMUL_SECONDS, other load had made its
matmuls seem long enough: a larger size is chosen."""
NUM_READ_BACKS, NUM_BUSY_READ_BACKS = 3, 20
"""Tries on a block of the program, if the machine is quiet and if it is not."""
MIN_DOUBLING, MAX_DOUBLING = 1.25, 4.0
"""Expected range of time(2 n matmuls) / time(n matmuls). About 1.0: the fence does not wait. On a
busy machine thread wake-up lengthens the short run; 1.39 was observed. Above: other load lengthened
the long run, since a fence that returns early can only shorten it."""
NEARLY_ALL = 0.85
"""Share of the tries that must show an early fence on a busy machine."""
MAX_SPREAD = 1.5
"""Median over minimum of the same work, above which something disturbed it."""
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
    def late_share(self) -> float:
        """Share of tries in which a result was read later after its fence than long after it.

        Both readings are of the same moment: other load delays the one as often as the other, so
        that only a fence that returns early makes nearly all of the first ones late.
        """
        pairs = zip(self.finished, self.fenced, self.reads)
        late = [finished - fenced - read > self.accepted_s for finished, fenced, read in pairs]
        return sum(late) / len(late)

    @property
    def spread(self) -> float:
        """The larger of the two chains' median over minimum: about 1 if nothing disturbs them."""
        return max(statistics.median(one) / min(one) for one in (self.singles, self.doubles))

    @property
    def doubling_is_odd(self) -> bool:
        """Whether the ratio of the times is outside of its range."""
        return not MIN_DOUBLING <= self.doubling <= MAX_DOUBLING

    @property
    def leaves_over(self) -> bool:
        """Whether the minima would have the fence return before half of the work is done."""
        return self.leftover_s > self.accepted_s

    @property
    def accepted_s(self) -> float:
        """Seconds of the long chain that may remain after its fence."""
        return max(NOISE_S, MAX_LEFTOVER * self.done_s)

    def failure(self, load: OtherLoad) -> str | None:
        """How the fence was seen to return early, or None.

        Early is a fence after which readings are late: most of them on a quiet machine, nearly all
        of them on a busy one. Without late readings, twice the work in the same time shows it too,
        but only if nothing disturbed the times.
        """
        is_quiet = load.disturbs is False
        required = 0.5 if is_quiet else NEARLY_ALL
        if self.leaves_over and self.late_share > required:
            return (
                f"after the fence, {self.leftover_s * 1e3:.1f} ms of matmuls"
                f" that take {self.done_s * 1e3:.1f} ms were still to be computed:"
                " the fence does not wait"
            )
        if self.doubling < MIN_DOUBLING and self.spread <= MAX_SPREAD and is_quiet:
            return (
                f"twice as many dependent matmuls took {self.doubling:.2f} times as long"
                f" ({MIN_DOUBLING} to {MAX_DOUBLING} expected): the fence does not wait"
            )
        return None

    def doubt(self, load: OtherLoad) -> str:
        """Why a test that neither passes nor fails is undetermined."""
        if self.doubling_is_odd:
            ratio = f"twice as many dependent matmuls took {self.doubling:.2f} times as long"
            return _doubt(ratio, load)
        return _doubt(
            f"reading a result took {min(self.reads):.3f} to {max(self.reads):.3f} s", load
        )


def check_matmul(framework: Framework) -> FenceReport:
    """The self-test on a chain of dependent matmuls of about 20 ms, and on one twice as long.

    The fence passes if it never returned before half of the work was done (a quarter in the tries
    without reading back). Tries that seem to show that it did are repeated, since only minima
    count. An undetermined attempt is repeated, and one with work that was chosen too small is too:
    its rate would be no roofline.
    """
    tried = _attempt(_choose_work(framework))
    for _ in range(MAX_ATTEMPTS - 1):
        again = _chosen_again(tried.work, tried.times)
        if tried.failure or (tried.doubt is None and again is tried.work):
            break
        tried = _attempt(again)
    work, times = tried.work, tried.times
    once_s = min(*times.singles, min(times.doubles) / 2)
    return FenceReport(
        fence_s=fence_seconds(framework, work.a),
        matmul_size=work.size,
        num_products=work.length,
        doubling=times.doubling,
        leftover_s=times.leftover_s,
        roof_flop_per_s=2 * work.size**3 * work.length / once_s,
        failure=tried.failure,
        doubt=tried.doubt,
    )


class _Attempt(NamedTuple):
    """One attempt at the matmuls' test; neither a failure nor a doubt: the fence has passed."""

    work: _Work
    times: _Times
    failure: str | None
    doubt: str | None


def _attempt(work: _Work) -> _Attempt:
    load = OtherLoad()
    times = _time_products(work)
    while times.done_s < MATMUL_SECONDS and (more := _more(work)):  # too short to fail any fence
        work, times = more, _time_products(more)
    failure = times.failure(load)
    odd = times.doubling_is_odd or times.leaves_over
    return _Attempt(work, times, failure, times.doubt(load) if odd and not failure else None)


def _time_products(work: _Work) -> _Times:
    times = _Times()
    while len(times.doubles) < NUM_PAIRS or (
        times.doubling_is_odd and len(times.doubles) < MAX_EACH
    ):
        times.singles.append(_chain_seconds(work, work.length)[0])
        times.doubles.append(_chain_seconds(work, 2 * work.length)[0])
    while len(times.finished) < NUM_READINGS or (
        times.leaves_over and len(times.finished) < MAX_EACH
    ):
        _, earlier = _chain_seconds(work, work.length)  # a result is read once: a copy may be kept
        fenced_s, product = _chain_seconds(work, 2 * work.length)
        times.fenced.append(fenced_s)
        times.finished.append(fenced_s + _read_seconds(work.framework, product))
        times.reads.append(_read_seconds(work.framework, earlier))
    return times


class ProgramTest(NamedTuple):
    """The result of the fence's test on a program."""

    leftover_share: float
    """Share of a block that was still to be computed when its fence returned."""
    failure: str | None
    """How the fence was seen to return early, or None."""
    doubt: str | None
    """Why the test is undetermined, or None."""


def check_program(program: Stepping, framework: Framework, *, num_steps: int) -> ProgramTest:
    """The test whether a block of this program is computed when its fence returns.

    Reading back right after the fence must take no longer than reading back after a pause in which
    the device can finish. The fence fails if it took longer in nearly every try. On a quiet machine
    one try in which it did not is enough to pass, since noise only adds time. On a busy one the
    reading after the pause may have been disturbed instead: then late tries must be rare.
    """
    load = OtherLoad()
    shares: list[float] = []
    while len(shares) < (NUM_READ_BACKS if load.disturbs is False else NUM_BUSY_READ_BACKS):
        shares.append(_leftover_share(program, framework, num_steps))
        num_late = sum(share > MAX_LEFTOVER for share in shares)
        is_waiting = (
            num_late < len(shares) if load.disturbs is False else _is_rare(num_late, shares)
        )
        if is_waiting:
            return ProgramTest(min(shares), failure=None, doubt=None)
    left = (
        f"after the fence, {min(shares):.0%} of a block was still to be computed"
        f" (at most {MAX_LEFTOVER:.0%} expected)"
    )
    if num_late >= NEARLY_ALL * len(shares):
        return ProgramTest(min(shares), failure=left, doubt=None)
    late = f"after {num_late} of {len(shares)} blocks, more than half seemed still to be computed"
    return ProgramTest(min(shares), failure=None, doubt=_doubt(late, load))


def _is_rare(num_late: int, tries: Sequence[float]) -> bool:
    """Whether so few of the tries were late that an early fence cannot have been the cause."""
    return 3 * num_late <= len(tries) - 5


def _doubt(seen: str, load: OtherLoad) -> str:
    """The reason why a test is undetermined."""
    cause = "its times vary" if load.disturbs is False else "the machine is too busy"
    return f"the fence could not be tested: {cause} ({load}); {seen}"


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


def _chosen_again(work: _Work, times: _Times) -> _Work:
    """The work for the next attempt: larger if this was chosen too small, while preempted."""
    fastest_s = min(*times.singles, min(times.doubles) / 2)
    if times.late_share > NEARLY_ALL or fastest_s >= MIN_SHARE_OF_TARGET * MATMUL_SECONDS:
        return work  # after an early fence a chain seems too short at any size
    if work.size >= MAX_SIZE:
        return _more(work) or work
    return _choose_work(work.framework, min(MAX_SIZE, _next_size(work.size, fastest_s)))


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


def fence_seconds(framework: Framework, value: Any) -> float:
    """The seconds of an empty fence, median of 50; `value` was computed long before."""

    def once() -> float:
        begin = time.perf_counter()
        framework.wait(value)
        return time.perf_counter() - begin

    return statistics.median(once() for _ in range(50))
