"""The self-test passes a framework that waits and catches one that does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.contract.program import Reading
from benchmarks.worker import fence

PRODUCT_FLOP_PER_S = 1e11
STEP_S = 0.02


class QueuedFramework:
    """Work goes to a queue; `honest` decides whether waiting waits. On a clock of its own."""

    now_s = 0.0
    done_s = 0.0
    """When the queue will be empty."""

    def __init__(self, *, honest: bool) -> None:
        self.honest = honest

    def put(self, array: np.ndarray) -> np.ndarray:
        return array

    def enqueue(self, seconds: float) -> None:
        self.now_s += 1e-6
        self.done_s = max(self.done_s, self.now_s) + seconds

    def finish(self) -> np.ndarray:
        """Something that is there once the queue is empty."""
        self.now_s = max(self.now_s, self.done_s)
        return np.zeros(1)

    def get(self, value: Any) -> np.ndarray:
        return self.finish()

    def wait(self, values: Any) -> None:
        self.now_s += 1e-6
        if self.honest:
            self.finish()

    def matmul(self, a: Any, b: Any) -> Any:
        self.enqueue(2 * len(b) ** 3 / PRODUCT_FLOP_PER_S)
        return a

    def sleep(self, seconds: float) -> None:
        """In place of the fence's time.sleep."""
        self.now_s += seconds


class ConstantFramework(QueuedFramework):
    """A chain of products takes the time of its first: the others' work is not done."""

    def matmul(self, a: Any, b: Any) -> Any:
        self.now_s += 0.025 if isinstance(a, np.ndarray) else 0.0
        return None


class QueuedProgram:
    """Steps of 20 ms on the framework's queue."""

    def __init__(self, framework: QueuedFramework) -> None:
        self.framework = framework

    def step(self) -> Any:
        self.framework.enqueue(STEP_S)

    def read(self) -> dict[str, np.ndarray]:
        self.framework.finish()
        return {"loss": np.zeros(())}


class LazyProgram(QueuedProgram):
    """What it reads is fetched when it is looked at, as where a state is large."""

    def read(self) -> Reading:  # type: ignore[override]
        return Reading({"loss": self.framework.finish})


class LossFirstProgram(QueuedProgram):
    """The loss is there at once, before a large array that no step changes; the weights are not."""

    def read(self) -> Reading:  # type: ignore[override]
        return Reading(
            {
                "loss": lambda: np.zeros(()),
                "frozen/table": lambda: np.empty(fence.MAX_READ_BYTES + 1, np.uint8),
                "frozen/kernel": lambda: np.zeros(1),
                "weights/kernel": self.framework.finish,
            }
        )


class Seen:
    """What the self-test sees of the load of others."""

    def __init__(self, *, disturbs: bool | None) -> None:
        self.disturbs = disturbs

    def __str__(self) -> str:
        return "other processes took 70% of its CPUs' time"


def ruled_by(
    framework: Any, monkeypatch: pytest.MonkeyPatch, *, disturbed: bool | None = False
) -> Any:
    """The framework, whose clock the self-test reads."""
    clock = SimpleNamespace(perf_counter=lambda: framework.now_s, sleep=framework.sleep)
    monkeypatch.setattr(fence, "time", clock)
    monkeypatch.setattr(fence, "OtherLoad", lambda: Seen(disturbs=disturbed))
    return framework


def test_an_honest_queue_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = ruled_by(QueuedFramework(honest=True), monkeypatch)
    report = fence.check_matmul(framework)
    assert report.failure is None
    assert report.matmul_size == 1024  # 20 ms are 1,000
    assert report.roof_flop_per_s == pytest.approx(PRODUCT_FLOP_PER_S, rel=1e-3)
    tested = fence.check_program(QueuedProgram(framework), framework, num_steps=3)
    assert (tested.failure, tested.doubt) == (None, None)


def test_a_fence_that_returns_early_is_caught_on_the_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = fence.check_matmul(ruled_by(QueuedFramework(honest=False), monkeypatch))
    assert report.failure is not None
    assert "does not wait" in report.failure


@pytest.mark.parametrize("kind", [QueuedProgram, LazyProgram, LossFirstProgram])
def test_a_fence_that_returns_early_is_caught_on_the_program(
    kind: type[QueuedProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    framework = ruled_by(QueuedFramework(honest=False), monkeypatch)
    tested = fence.check_program(kind(framework), framework, num_steps=3)
    assert tested.failure is not None
    assert "still to be computed" in tested.failure


def test_twice_the_work_in_the_same_time_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "MAX_SIZE", 256)  # no size would ever take long enough
    report = fence.check_matmul(ruled_by(ConstantFramework(honest=False), monkeypatch))
    assert report.doubling == pytest.approx(1.0, rel=1e-3)
    assert report.failure is not None
    assert "dependent matmuls" in report.failure


class SimulatedFramework(QueuedFramework):
    """A device that computes in order, and a machine with other work on it now and then.

    Half of the time, in bursts, every product and every reading takes up to four times as long. A
    share `lies` of all waiting does not wait. Reading takes `copy_s`; after 20 ms of idleness the
    device computes at half its rate for `ramp_s`. Seconds are those of its own clock.
    """

    def __init__(
        self,
        *,
        seed: int,
        lies: float,
        rate: float = 1e11,
        copy_s: float = 0.004,
        ramp_s: float = 0.0,
        noise: float = 3.0,
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.lies, self.rate, self.copy_s = lies, rate, copy_s
        self.ramp_s, self.noise = ramp_s, noise
        self.now_s = self.random.uniform(0.0, 2.0)
        self.burst_s = self.random.uniform(0.02, 1.0)
        self.done_s = self.cold_until_s = 0.0

    def matmul(self, a: Any, b: Any) -> Any:
        self.now_s += 1e-5
        if self.now_s - self.done_s > 0.02:
            self.cold_until_s = self.now_s + self.ramp_s
        begin_s = max(self.done_s, self.now_s)
        is_cold = begin_s < self.cold_until_s
        work_s = 2 * len(b) ** 3 / self.rate * (2 if is_cold else 1)
        self.done_s = begin_s + self._disturbed(work_s)
        return a

    def wait(self, values: Any) -> None:
        self.now_s += 1e-6
        if self.random.uniform() >= self.lies:
            self.now_s = max(self.now_s, self.done_s)

    def get(self, value: Any) -> np.ndarray:
        self.now_s = max(self.now_s, self.done_s) + self._disturbed(self.copy_s)
        return np.zeros(1)

    def _disturbed(self, seconds: float) -> float:
        is_busy = int(self.now_s / self.burst_s) % 2
        return seconds * self.random.uniform(1.0, 1.0 + (self.noise if is_busy else 0.05))


BUSY: dict[str, float] = {}
CLOCKS_DOWN = {"copy_s": 0.08, "ramp_s": 0.04, "noise": 0.1}
FAST_WITH_SLOW_COPIES = {"rate": 7e14, "copy_s": 0.05, "noise": 0.2}
"""What half of the time makes up to 20 % slower."""
MACHINES = {"busy": BUSY, "clocks_down": CLOCKS_DOWN, "fast": FAST_WITH_SLOW_COPIES}


@pytest.fixture(params=MACHINES.values(), ids=MACHINES)
def machine(request: pytest.FixtureRequest) -> dict[str, float]:
    simulated: dict[str, float] = request.param
    return simulated


def simulate(
    monkeypatch: pytest.MonkeyPatch, *, lies: float, machine: dict[str, float]
) -> list[fence.FenceReport]:
    monkeypatch.setattr(fence, "_operands", lambda _, size: (range(size), range(size)))
    reports = []
    for seed in range(60):
        framework = SimulatedFramework(seed=seed, lies=lies, **machine)
        reports.append(fence.check_matmul(ruled_by(framework, monkeypatch)))
    return reports


def test_no_machine_fails_a_fence_that_waits(
    machine: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for report in simulate(monkeypatch, lies=0.0, machine=machine):
        assert report.failure is None
        assert report.roof_flop_per_s <= machine.get("rate", 1e11)


@pytest.mark.parametrize("lies", [0.9, 1.0])
def test_on_no_machine_passes_a_fence_that_returns_early_most_of_the_time(
    lies: float, machine: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for report in simulate(monkeypatch, lies=lies, machine=machine):
        assert report.failure is not None
        assert "does not wait" in report.failure


def test_too_small_a_product_is_not_believed_to_be_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = ruled_by(SimulatedFramework(seed=0, lies=1.0), monkeypatch)
    monkeypatch.setattr(fence, "_operands", lambda _, size: (range(size), range(size)))
    measured, waited = fence._product_seconds, iter([1.0])  # other work, in the way of the first
    monkeypatch.setattr(fence, "_product_seconds", lambda *args: next(waited, measured(*args)))
    report = fence.check_matmul(framework)
    assert report.matmul_size > fence.MIN_SIZE
    assert report.failure is not None


def test_a_test_that_passes_with_too_small_a_product_is_repeated_for_the_roofline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    framework = ruled_by(QueuedFramework(honest=True), monkeypatch)
    choose, measured = fence._choose_work, fence._time_products
    preempted = fence._Times([0.004] * 5, [0.008] * 5, [0.021] * 4, [0.021] * 4, [0.0] * 4)
    small = fence._Work(framework, 512, *fence._operands(framework, 512), length=1)
    works, times = iter([small]), iter([preempted])
    monkeypatch.setattr(fence, "_choose_work", lambda *args: next(works, None) or choose(*args))
    monkeypatch.setattr(fence, "_time_products", lambda one: next(times, None) or measured(one))
    report = fence.check_matmul(framework)
    assert (report.failure, report.doubt) == (None, None)
    assert report.matmul_size == 1024
    assert report.roof_flop_per_s == pytest.approx(PRODUCT_FLOP_PER_S, rel=1e-3)


class OverloadedFramework(QueuedFramework):
    """Products and readings on a machine with many times more processes than cores.

    Most lose their processor for up to 200 ms, as honest launches did beside 16 busy loops.
    """

    def __init__(self, *, seed: int, honest: bool, share: float = 0.8) -> None:
        super().__init__(honest=honest)
        self.random, self.share = np.random.default_rng(seed), share

    def enqueue(self, seconds: float) -> None:
        super().enqueue(seconds + self._lost_s())

    def get(self, value: Any) -> np.ndarray:
        self.finish()
        self.now_s += 0.002 + self._lost_s()
        return np.zeros(1)

    def _lost_s(self) -> float:
        return self.random.uniform(0.0, 0.2) if self.random.uniform() < self.share else 0.0


def overloaded(
    monkeypatch: pytest.MonkeyPatch, *, honest: bool, share: float = 0.8
) -> list[tuple[bool, bool]]:
    """For each launch whether it was accused, and whether its test was undetermined."""
    monkeypatch.setattr(fence, "_operands", lambda _, size: (range(size), range(size)))
    found = []
    for seed in range(60):
        framework = OverloadedFramework(seed=seed, honest=honest, share=share)
        report = fence.check_matmul(ruled_by(framework, monkeypatch, disturbed=True))
        program = fence.check_program(OverloadedProgram(framework), framework, num_steps=3)
        for one in (report, program):
            found.append((one.failure is not None, one.doubt is not None))
    return found


class OverloadedProgram(QueuedProgram):
    """Its state is read back as the framework's results are."""

    def read(self) -> dict[str, np.ndarray]:
        return {"loss": self.framework.get(None)}


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_no_load_has_a_fence_that_waits_accused(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = overloaded(monkeypatch, honest=True, share=share)
    assert not [one for one in found if one[0]]
    assert any(not doubted for _, doubted in found)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_no_load_has_a_fence_that_returns_early_pass(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = overloaded(monkeypatch, honest=False, share=share)
    assert all(accused or doubted for accused, doubted in found)


class StoppedFramework(QueuedFramework):
    """Its process is stopped for 6 s, before its call or its clock's reading of number `at`."""

    def __init__(self, *, honest: bool, at: int, on_host: bool) -> None:
        super().__init__(honest=honest)
        self.at, self.on_host, self.num_calls = at, on_host, 0

    def count(self) -> None:
        self.num_calls += 1
        if self.num_calls == self.at:
            if self.on_host and self.done_s > self.now_s:  # its threads are stopped with it
                self.done_s += 6.0
            self.now_s += 6.0

    def clock(self) -> float:
        self.count()
        return self.now_s

    def enqueue(self, seconds: float) -> None:
        self.count()
        super().enqueue(seconds)

    def finish(self) -> np.ndarray:
        self.count()
        return super().finish()


@pytest.mark.parametrize("on_host", [True, False])
def test_no_stop_by_somebody_else_has_a_fence_judged_wrongly(
    on_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "_operands", lambda _, size: (range(size), range(size)))
    for honest in (True, False):
        at, num_calls = 0, 1
        while at < num_calls:  # each of the test's moments, until it ends before the stop
            at += 1
            framework = StoppedFramework(honest=honest, at=at, on_host=on_host)
            ruled_by(framework, monkeypatch)
            monkeypatch.setattr(fence.time, "perf_counter", framework.clock)
            report = fence.check_matmul(framework)
            program = QueuedProgram(framework)
            tested = honest and fence.check_program(program, framework, num_steps=3)
            num_calls = framework.num_calls
            assert (report.failure is None) is honest, (at, report)
            assert report.doubt is None, (at, report)
            assert not tested or (tested.failure, tested.doubt) == (None, None), (at, tested)
        assert at > 100


class StretchedFramework(QueuedFramework):
    """An honest queue whose long chains take `factor` times as long."""

    def __init__(self, factor: float) -> None:
        super().__init__(honest=True)
        self.factor, self.length = factor, 0

    def wait(self, values: Any) -> None:
        self.length = 0
        super().wait(values)

    def matmul(self, a: Any, b: Any) -> Any:
        self.length += 1
        seconds = 2 * len(b) ** 3 / PRODUCT_FLOP_PER_S
        self.enqueue(seconds * (self.factor if self.length > 1 else 1.0))
        return a


@pytest.mark.parametrize(
    ("disturbed", "cause"), [(True, "the machine is too busy"), (False, "its times vary")]
)
def test_too_long_a_chain_leaves_the_test_undetermined(
    disturbed: bool, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework = StretchedFramework(30.0)
    report = fence.check_matmul(ruled_by(framework, monkeypatch, disturbed=disturbed))
    assert report.doubling > fence.MAX_DOUBLING
    assert report.failure is None
    assert report.doubt == (
        f"the fence could not be tested: {cause} (other processes took 70% of its CPUs' time);"
        f" twice as many dependent matmuls took {report.doubling:.2f} times as long"
    )


@pytest.mark.parametrize("disturbed", [True, None])
def test_twice_the_work_in_the_same_time_proves_nothing_unless_the_machine_is_quiet(
    monkeypatch: pytest.MonkeyPatch, disturbed: bool | None
) -> None:
    monkeypatch.setattr(fence, "MAX_SIZE", 256)
    framework = ruled_by(ConstantFramework(honest=False), monkeypatch, disturbed=disturbed)
    report = fence.check_matmul(framework)
    assert report.failure is None
    assert report.doubt is not None


def test_work_that_was_chosen_too_small_is_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = ruled_by(QueuedFramework(honest=True), monkeypatch)
    right = fence._choose_work(framework)
    small = fence._Work(framework, 256, *fence._operands(framework, 256), length=1)
    times = fence._Times(singles=[0.0003], doubles=[0.02], fenced=[0.02], finished=[0.17])
    times.reads = [0.15]
    again = fence._chosen_again(small, times)
    assert again.size == right.size
    assert fence._chosen_again(right, fence._time_products(right)) is right


def test_one_reading_that_was_disturbed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = ruled_by(QueuedFramework(honest=True), monkeypatch)
    program = QueuedProgram(framework)
    stops = iter([6.0])  # somebody stops the worker before its first reading
    monkeypatch.setattr(
        program, "read", lambda: framework.sleep(next(stops, 0.0)) or {"loss": np.zeros(())}
    )
    tested = fence.check_program(program, framework, num_steps=3)
    assert (tested.leftover_share, tested.failure, tested.doubt) == (0.0, None, None)
