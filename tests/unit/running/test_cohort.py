"""When a cohort's rounds end, and what becomes of a launch that is out."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contract.message import Turn
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import Block
from benchmarks.running import cohort
from benchmarks.running.failure import Failure
from benchmarks.running.live import LaunchEndedError, Live

PROTOCOL = MeasuringProtocol(min_rounds=10, max_rounds=40, max_launch_s=60.0)


def live(flags: tuple[str, ...] = (), *, slow: float = 1.0) -> Any:
    """A launch of ten even blocks; every second has these flags and takes `slow` times as long."""
    blocks = [
        Block(r, 0, 1, int(1e8 * (slow if r % 2 else 1.0)), 1000, flags=flags if r % 2 else ())
        for r in range(10)
    ]
    return SimpleNamespace(blocks=blocks)


def is_enough(one: Any, *, num_rounds: int = 10, num_valid: int = 10, elapsed_s: float = 1) -> bool:
    return cohort._is_enough([one], num_rounds, num_valid, elapsed_s, PROTOCOL)


def test_even_rounds_end_at_the_minimum() -> None:
    assert is_enough(live())
    assert not is_enough(live(slow=1.3))


def test_disturbed_rounds_do_not_count_for_the_minimum() -> None:
    assert not is_enough(live(), num_valid=9)
    assert is_enough(live(), num_rounds=15, num_valid=10)


def test_disturbed_blocks_do_not_count_for_the_spread() -> None:
    assert is_enough(live(("FOREIGN_LOAD",), slow=1.3), num_rounds=20)


@pytest.mark.parametrize(
    "reached", [{"num_rounds": 50}, {"num_rounds": 13, "elapsed_s": 60.0}, {"num_valid": 40}]
)
def test_the_limits_end_it_all_the_same(reached: dict[str, Any]) -> None:
    assert is_enough(live(slow=1.3), **{"num_rounds": 11, "num_valid": 5, **reached})


def test_when_time_is_up_disturbed_rounds_are_still_replaced() -> None:
    assert not is_enough(live(slow=1.3), num_rounds=11, num_valid=9, elapsed_s=60.0)
    assert is_enough(live(slow=1.3), num_rounds=11, num_valid=10, elapsed_s=60.0)


def test_a_launch_that_another_s_turn_ended_takes_no_turn() -> None:
    class Untouchable:
        """A worker whose descriptors are closed."""

    fields = {field.name: None for field in dataclasses.fields(Live)}
    out = Live(**{**fields, "worker": Untouchable(), "failure": Failure("oom_host", "", "turn")})
    with pytest.raises(LaunchEndedError):
        out.take_turn(Turn(round=0, num_steps=1))
