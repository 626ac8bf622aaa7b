"""The self-test passes a framework that waits and catches one that does not."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.contract.program import Reading
from benchmarks.worker import fence


class QueuedFramework:
    """Work goes to a thread; `honest` decides whether waiting waits."""

    def __init__(self, *, honest: bool) -> None:
        self.honest = honest
        self.queue = ThreadPoolExecutor(1)

    def put(self, array: np.ndarray) -> np.ndarray:
        return array

    def get(self, value: Any) -> np.ndarray:
        return np.array(resolved(value))

    def wait(self, values: Any) -> None:
        if self.honest:
            resolved(values)

    def matmul(self, a: Any, b: Any) -> Any:
        return self.queue.submit(lambda: resolved(a) @ b)


class ConstantFramework(QueuedFramework):
    """Every product takes the same time, whatever came before: the work is not done."""

    def matmul(self, a: Any, b: Any) -> Any:
        time.sleep(0.025 if a is b or isinstance(a, np.ndarray) else 0.0)
        return Future()

    def get(self, value: Any) -> np.ndarray:
        return np.zeros(1)

    def wait(self, values: Any) -> None:
        pass


class TimedFramework(QueuedFramework):
    """A product's time grows with its work, at 10**11 FLOP/s on a clock of its own."""

    now_s = 0.0

    def matmul(self, a: Any, b: Any) -> Any:
        self.now_s += 2 * len(b) ** 3 / 1e11
        return a


class QueuedProgram:
    """Steps of 20 ms on the framework's queue."""

    def __init__(self, framework: QueuedFramework) -> None:
        self.framework = framework
        self.last: Any = None

    def step(self) -> Any:
        self.last = self.framework.queue.submit(time.sleep, 0.02)
        return self.last

    def read(self) -> dict[str, np.ndarray]:
        self.last.result()
        return {"loss": np.zeros(())}


class LazyProgram(QueuedProgram):
    """What it reads is fetched when it is looked at, as where a state is large."""

    def read(self) -> Reading:  # type: ignore[override]
        last = self.last
        return Reading({"loss": lambda: np.asarray(last.result() or 0.0)})


class LossFirstProgram(QueuedProgram):
    """The loss is there at once, before a large array that no step changes; the weights are not."""

    def read(self) -> Reading:  # type: ignore[override]
        last = self.last
        return Reading(
            {
                "loss": lambda: np.zeros(()),
                "frozen/table": lambda: np.empty(fence.MAX_READ_BYTES + 1, np.uint8),
                "frozen/kernel": lambda: np.zeros(1),
                "weights/kernel": lambda: np.asarray(last.result() or 0.0),
            }
        )


def resolved(value: Any) -> Any:
    return value.result() if isinstance(value, Future) else value


def test_an_honest_queue_passes() -> None:
    framework = QueuedFramework(honest=True)
    report = fence.check_matmul(framework)  # type: ignore[arg-type]
    assert report.failure is None
    assert report.roof_flop_per_s > 0
    program = QueuedProgram(framework)
    leftover = fence.check_program(program, framework, num_steps=3)  # type: ignore[arg-type]
    assert fence.program_failure(leftover) is None


def test_the_products_last_long_enough_and_little_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = TimedFramework(honest=True)
    monkeypatch.setattr(fence, "time", SimpleNamespace(perf_counter=lambda: framework.now_s))
    report = fence.check_matmul(framework)  # type: ignore[arg-type]
    assert report.matmul_size == 1024  # 20 ms are 1,000
    assert report.roof_flop_per_s == pytest.approx(1e11)
    assert report.failure is None


def test_a_fence_that_returns_early_is_caught_on_the_products() -> None:
    report = fence.check_matmul(QueuedFramework(honest=False))  # type: ignore[arg-type]
    assert report.failure is not None
    assert "does not wait" in report.failure


@pytest.mark.parametrize("kind", [QueuedProgram, LazyProgram, LossFirstProgram])
def test_a_fence_that_returns_early_is_caught_on_the_program(kind: type[QueuedProgram]) -> None:
    framework = QueuedFramework(honest=False)
    program = kind(framework)
    leftover = fence.check_program(program, framework, num_steps=3)  # type: ignore[arg-type]
    failure = fence.program_failure(leftover)
    assert failure is not None
    assert "still to be computed" in failure


def test_twice_the_work_in_the_same_time_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "MAX_SIZE", 256)  # no size would ever take long enough
    report = fence.check_matmul(ConstantFramework(honest=False))  # type: ignore[arg-type]
    assert report.doubling == pytest.approx(1.0, abs=0.2)
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
        clock = SimpleNamespace(perf_counter=lambda simulated=framework: simulated.now_s)
        monkeypatch.setattr(fence, "time", clock)
        reports.append(fence.check_matmul(framework))  # type: ignore[arg-type]
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
    framework = SimulatedFramework(seed=0, lies=1.0)
    monkeypatch.setattr(fence, "_operands", lambda _, size: (range(size), range(size)))
    monkeypatch.setattr(fence, "time", SimpleNamespace(perf_counter=lambda: framework.now_s))
    measured, waited = fence._product_seconds, iter([1.0])  # other work, in the way of the first
    monkeypatch.setattr(fence, "_product_seconds", lambda *args: next(waited, measured(*args)))
    report = fence.check_matmul(framework)  # type: ignore[arg-type]
    assert report.matmul_size > fence.MIN_SIZE
    assert report.failure is not None
