"""When a cohort's rounds end, and what becomes of a launch that is out."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contract.device import DeviceRules
from benchmarks.contract.message import Turn
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import Block
from benchmarks.running import rounds
from benchmarks.running.failure import Failure
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch

PROTOCOL = MeasuringProtocol(min_rounds=10, max_rounds=40, max_launch_s=60.0)


def live(flags: tuple[str, ...] = (), *, slow: float = 1.0) -> Any:
    """A launch of ten even blocks; every second has these flags and takes `slow` times as long."""
    blocks = [
        Block(r, 0, 1, int(1e8 * (slow if r % 2 else 1.0)), 1000, flags=flags if r % 2 else ())
        for r in range(10)
    ]
    return SimpleNamespace(blocks=blocks)


def is_enough(one: Any, *, num_rounds: int = 10, num_valid: int = 10, elapsed_s: float = 1) -> bool:
    return rounds._is_enough([one], num_rounds, num_valid, elapsed_s, PROTOCOL)


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

    fields = {field.name: None for field in dataclasses.fields(SupervisedLaunch)}
    out = SupervisedLaunch(
        **{**fields, "worker": Untouchable(), "failure": Failure("oom_host", "", "turn")}
    )
    with pytest.raises(LaunchEndedError):
        out.take_turn(Turn(round=0, num_steps=1))


def launch_of_requests(steps_per_turn: int | None) -> Any:
    return SimpleNamespace(ready=SimpleNamespace(steps_per_turn=steps_per_turn))


@pytest.mark.parametrize(
    ("percentiles", "max_rounds", "expected"),
    [
        ([50, 90], 20, 4),  # 64 of a launch: 3 rounds, fewer than the protocol's least
        ([50, 90, 99], 20, 10),  # 1.1 times 662, over 3 cohorts of 25 requests a round
        ([99], 8, 8),
        ([], 20, 4),
    ],
)
def test_rounds_go_on_until_the_percentiles_have_their_requests(
    percentiles: list[int], max_rounds: int, expected: int
) -> None:
    protocol = MeasuringProtocol(
        num_cohorts=3, min_rounds=4, max_rounds=max_rounds, percentiles=percentiles
    )
    found = rounds._with_enough_requests(protocol, [launch_of_requests(25)])
    assert found.min_rounds == expected


def test_each_launch_has_the_requests_of_its_own_percentiles() -> None:
    protocol = MeasuringProtocol(num_cohorts=3, min_rounds=4, max_rounds=20, percentiles=[50, 90])
    found = rounds._with_enough_requests(protocol, [launch_of_requests(10)])
    assert found.min_rounds == 7  # 64, which p90 takes of a launch


def test_training_takes_the_protocols_rounds() -> None:
    protocol = MeasuringProtocol(min_rounds=4, percentiles=[99])
    assert rounds._with_enough_requests(protocol, [launch_of_requests(None)]) is protocol
    assert rounds._with_enough_requests(protocol, []) is protocol


def test_a_turn_of_requests_has_as_many_as_the_launch_says() -> None:
    rules = rounds.Rounds(PROTOCOL, DeviceRules(), seed=0)
    assert rounds.steps_per_block(launch_of_requests(25), rules) == 25
