"""A block times its steps and its wait, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.worker import timing


class Clock:
    """A clock that advances only when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def perf_counter_ns(self) -> int:
        return self.now_ns

    def clock_gettime_ns(self, clock: int) -> int:
        return 0

    CLOCK_BOOTTIME = CLOCK_MONOTONIC = 0


class Slow:
    """Program and framework at once: a step takes 10, a wait 3, of the fake clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[str] = []

    def step(self) -> int:
        self.clock.now_ns += 10
        self.calls.append("step")
        return len(self.calls)

    def wait(self, values: Any) -> None:
        self.clock.now_ns += 3
        self.calls.append("wait")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return Slow(clock)


def test_a_block_is_its_steps_and_its_wait(slow: Slow) -> None:
    block = timing.time_block(slow, slow, num_steps=4, previous=None)  # type: ignore[arg-type]
    assert block.duration_ns == 4 * 10 + 3
    assert block.opening_fence_ns == 3
    assert slow.calls == ["wait", "step", "step", "step", "step", "wait"]


def test_each_sample_of_a_block_is_its_steps_and_its_wait(slow: Slow) -> None:
    block = timing.time_block(slow, slow, num_steps=6, previous=None, steps_per_sample=2)  # type: ignore[arg-type]
    assert block.sample_ns == 3 * (2 * 10 + 3,)
    assert block.duration_ns == sum(block.sample_ns)
    assert slow.calls == ["wait", *3 * ["step", "step", "wait"]]


def test_a_block_is_one_sample_if_nothing_else_is_said(slow: Slow) -> None:
    block = timing.time_block(slow, slow, num_steps=6, previous=None)  # type: ignore[arg-type]
    assert block.sample_ns == (block.duration_ns,)


def test_sleep_of_the_machine_is_seen(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = iter([0, 0, 200_000_000, 0])
    monkeypatch.setattr(slow.clock, "clock_gettime_ns", lambda clock: next(slept))
    block = timing.time_block(slow, slow, num_steps=1, previous=None)  # type: ignore[arg-type]
    assert block.suspended


class Answering(Slow):
    """A program of requests: 100 to prepare one, 5 to bring its answer to the host."""

    def prepare(self) -> None:
        self.clock.now_ns += 100
        self.calls.append("prepare")

    def get(self, value: Any) -> Any:
        self.clock.now_ns += 5
        self.calls.append("get")
        return value


def test_a_request_lasts_until_its_answer_is_on_the_host(slow: Slow) -> None:
    program: Any = Answering(slow.clock)
    block = timing.time_requests(program, program, num_requests=2, previous=None)
    assert block.sample_ns == (10 + 5, 10 + 5)
    assert block.duration_ns == sum(block.sample_ns)
    assert program.calls == ["wait", *2 * ["prepare", "wait", "step", "get", "wait"]]
    assert len(block.answers) == 2


def test_the_preparation_of_every_request_counts_as_preparation(slow: Slow) -> None:
    program: Any = Answering(slow.clock)
    block = timing.time_requests(program, program, num_requests=2, previous=None)
    assert block.preparation_ns == 2 * (100 + 3)
