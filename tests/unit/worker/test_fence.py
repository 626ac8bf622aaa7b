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


def ruled_by(framework: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The framework, whose clock the self-test reads."""
    clock = SimpleNamespace(perf_counter=lambda: framework.now_s, sleep=framework.sleep)
    monkeypatch.setattr(fence, "time", clock)
    return framework


def test_an_honest_queue_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = ruled_by(QueuedFramework(honest=True), monkeypatch)
    report = fence.check_matmul(framework)
    assert report.failure is None
    assert report.matmul_size == 1024  # 20 ms are 1,000
    assert report.roof_flop_per_s == pytest.approx(PRODUCT_FLOP_PER_S, rel=1e-3)
    leftover = fence.check_program(QueuedProgram(framework), framework, num_steps=3)
    assert fence.program_failure(leftover) is None


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
    leftover = fence.check_program(kind(framework), framework, num_steps=3)
    failure = fence.program_failure(leftover)
    assert failure is not None
    assert "still to be computed" in failure


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
