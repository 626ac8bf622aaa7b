"""The self-test passes a framework that waits and catches one that does not."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.contract.workload import Reading
from benchmarks.measuring import fence


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
    assert "dependent matrix products" in report.failure


WAITS = {
    "one of nine singles is undisturbed": ([0.02] + 8 * [0.04], 9 * [0.04]),
    "the first try is disturbed": (9 * [0.04] + 9 * [0.02], 18 * [0.04]),
}
LIES = {
    "both last as long": (27 * [0.02], 27 * [0.02]),
    "and most are disturbed": (9 * [0.03, 0.04, 0.02], 9 * [0.08, 0.03, 0.02]),
}
"""Seconds of one product and of two, as a machine with other work on it may show them."""


def check_with(
    monkeypatch: pytest.MonkeyPatch, singles: list[float], doubles: list[float]
) -> fence.FenceReport:
    left = {1: iter(singles), 2: iter(doubles)}
    monkeypatch.setattr(fence, "_chain_seconds", lambda _, a, b, length: (next(left[length]), a))
    monkeypatch.setattr(fence, "_choose_size", lambda _: (128, np.zeros(1), np.zeros(1)))
    report = fence.check_matmul(QueuedFramework(honest=True))  # type: ignore[arg-type]
    assert [next(rest, None) for rest in left.values()] == [None, None]
    return report


@pytest.mark.parametrize("times", WAITS.values(), ids=WAITS)
def test_other_work_on_the_machine_fails_no_fence_that_waits(
    times: tuple[list[float], list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = check_with(monkeypatch, *times)
    assert report.doubling == pytest.approx(2.0)
    assert report.roof_flop_per_s == pytest.approx(2 * 128**3 / 0.02)
    assert report.failure is None


@pytest.mark.parametrize("times", LIES.values(), ids=LIES)
def test_a_fence_fails_that_fails_in_every_try(
    times: tuple[list[float], list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = check_with(monkeypatch, *times)
    assert report.doubling == pytest.approx(1.0)
    assert report.failure is not None
