"""When a cohort's rounds end, and what becomes of a launch that is out."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.contract.device import DeviceRules
from benchmarks.contract.message import BlockDone, Turn
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.host.disturbance import Conditions
from benchmarks.running import rounds
from benchmarks.running.failure import Failure
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch, Taken
from benchmarks.running.patience import Patience

PROTOCOL = MeasuringProtocol(min_rounds=10, max_rounds=40, max_launch_s=60.0, block_target_s=0.1)


def is_enough(
    *, num_rounds: int, num_valid: int, spent_s: float = 1.0, planned: int | None = None
) -> bool:
    return rounds._is_enough(
        num_rounds, num_valid, PROTOCOL, is_time_up=spent_s >= 60.0, planned=planned
    )


def test_rounds_go_on_until_time_is_up_or_the_most_are_made() -> None:
    assert not is_enough(num_rounds=10, num_valid=10)
    assert is_enough(num_rounds=10, num_valid=10, spent_s=60.0)
    assert not is_enough(num_rounds=9, num_valid=9, spent_s=60.0)
    assert is_enough(num_rounds=40, num_valid=40)


@pytest.mark.parametrize(("planned", "needed"), [(20, 20), (5, 10), (100, 40)])
def test_planned_rounds_are_made_within_the_protocols_limits(planned: int, needed: int) -> None:
    for spent_s in (1.0, 1000.0):
        assert not is_enough(
            num_rounds=needed - 1, num_valid=needed - 1, spent_s=spent_s, planned=planned
        )
        assert is_enough(num_rounds=needed, num_valid=needed, spent_s=spent_s, planned=planned)


def test_rounds_that_do_not_count_end_nothing_until_many_were_added() -> None:
    assert not is_enough(num_rounds=14, num_valid=2, spent_s=60.0)
    assert is_enough(num_rounds=15, num_valid=2, spent_s=60.0)
    assert not is_enough(num_rounds=29, num_valid=19, planned=20)
    assert is_enough(num_rounds=30, num_valid=19, planned=20)


def lives_with(*times: tuple[float, ...], disturbed: tuple[int, ...] = ()) -> list[Any]:
    """Launches whose turns have these step times, in seconds; the first's may be disturbed."""

    def block(index: int, step_s: float, *, is_disturbed: bool) -> SimpleNamespace:
        return SimpleNamespace(round=index, samples_s=[step_s], is_disturbed=is_disturbed)

    return [
        SimpleNamespace(
            blocks=[
                block(index, step_s, is_disturbed=number == 0 and index in disturbed)
                for index, step_s in enumerate(of_launch)
            ]
        )
        for number, of_launch in enumerate(times)
    ]


CALM_TURNS = ((1.0, 1.001, 1.0, 0.999), (2.0, 2.001, 2.0, 2.001))
NOISY_TURNS = ((1.0, 1.3, 1.0, 1.2), (2.0, 2.0, 2.7, 2.1))


def test_noisy_rounds_go_on_as_long_as_that_is_worthwhile() -> None:
    of_cohort = rounds.Rounds(PROTOCOL, DeviceRules(), seed=0, worthwhile_s=30.0)
    assert of_cohort.go_on(lives_with(*NOISY_TURNS), 29.0)
    assert not of_cohort.go_on(lives_with(*NOISY_TURNS), 30.0)
    assert not of_cohort.go_on(lives_with(*CALM_TURNS), 29.0)
    planned = dataclasses.replace(of_cohort, num_rounds=10)
    assert not planned.go_on(lives_with(*NOISY_TURNS), 29.0)


def test_drift_that_all_launches_share_and_disturbed_turns_are_no_noise() -> None:
    of_cohort = rounds.Rounds(PROTOCOL, DeviceRules(), seed=0, worthwhile_s=30.0)
    drifting = tuple(tuple(t * (1 + i) for i, t in enumerate(one)) for one in CALM_TURNS)
    assert not of_cohort.go_on(lives_with(*drifting), 29.0)
    spoilt = ((9.0, *CALM_TURNS[0][1:]), CALM_TURNS[1])
    assert of_cohort.go_on(lives_with(*spoilt), 29.0)
    assert not of_cohort.go_on(lives_with(*spoilt, disturbed=(0,)), 29.0)


def test_a_launch_alone_or_without_turns_says_nothing_of_noise() -> None:
    of_cohort = rounds.Rounds(PROTOCOL, DeviceRules(), seed=0, worthwhile_s=30.0)
    assert not of_cohort.go_on(lives_with(NOISY_TURNS[0]), 29.0)
    assert not of_cohort.go_on(lives_with(NOISY_TURNS[0], ()), 29.0)


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
    assert rounds.turn_of(launch_of_requests(25), rules) == Turn(0, 25)


@pytest.mark.parametrize(
    ("step_s", "fence_s", "least", "num_steps", "per_sample"),
    [
        (0.13, 1e-6, 1, 3, 1),  # three samples, the first of which pays for the stop
        (0.4, 1e-6, 1, 2, 1),  # two if three do not fit into a second
        (30.0, 1e-6, 1, 2, 1),
        (0.03, 1e-6, 1, 4, 1),
        (0.001, 1e-5, 1, 100, 10),  # a sample lasts a thousand fences
        (0.03, 1e-6, 5, 15, 5),  # work is queued ahead of the device
        (0.001, 1e-6, 5, 100, 5),
    ],
)
def test_the_steps_of_a_turn_fill_samples(
    step_s: float, fence_s: float, least: int, num_steps: int, per_sample: int
) -> None:
    rules = rounds.Rounds(PROTOCOL, DeviceRules(min_steps_per_sample=least), seed=0)
    ready = SimpleNamespace(steps_per_turn=None, step_s=step_s, fence_s=fence_s)
    turn = rounds.turn_of(cast("Any", SimpleNamespace(ready=ready)), rules)
    assert turn == Turn(0, num_steps, per_sample)


@pytest.mark.parametrize(("step_s", "per_sample"), [(0.001, 10), (0.03, 3), (0.2, 1)])
def test_samples_of_one_cohort_have_as_many_steps_each_if_a_turn_has_time_for_them(
    step_s: float, per_sample: int
) -> None:
    rules = rounds.Rounds(PROTOCOL, DeviceRules(), seed=0)
    ready = SimpleNamespace(steps_per_turn=None, step_s=step_s, fence_s=1e-9)
    turn = rounds.turn_of(cast("Any", SimpleNamespace(ready=ready)), rules, alike=10)
    assert turn.steps_per_sample == per_sample


# A turn that other processes disturb


class Turns:
    """A launch whose turns meet these conditions, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *conditions: Conditions) -> None:
        self.watched: list[frozenset[int]] = []
        self.ended: list[int] = []
        self.num_waits = 0
        left = iter(conditions)

        def watch(group: int, *, suspects: frozenset[int], **_: object) -> SimpleNamespace:
            self.watched.append(suspects)
            return SimpleNamespace(
                conditions=lambda done, was_stopped: next(left),
                end=lambda: self.ended.append(group),
            )

        monkeypatch.setattr(rounds, "Watch", watch)
        self.patience = Patience(60.0)
        monkeypatch.setattr(self.patience, "await_calm", self._waits)
        done = BlockDone(0, 3, 3 * 10**8, 10, 0, False, sample_ns=(10**8,) * 3)
        self.live: Any = SimpleNamespace(
            launch=SimpleNamespace(settings=SimpleNamespace(device="cpu")),
            worker=SimpleNamespace(pid=1, was_stopped=False),
            blocks=[],
            take_turn=lambda turn: Taken(done, 3 * 10**8),
        )

    def _waits(self) -> None:
        self.num_waits += 1

    def take(self, number: int) -> bool:
        return rounds._take_turn(
            self.live,
            Turn(number, 3, 1),
            position=0,
            num_alive=1,
            patience=self.patience,
            probe=cast("Any", SimpleNamespace(take=lambda: 1)),
        )


QUIET = Conditions(0.0, ())
BUSY = Conditions(0.4, ("FOREIGN_LOAD",), suspects=frozenset({7}))
BUSY_IN_PART = Conditions(0.2, (), disturbed_samples=(2,), suspects=frozenset({7}))


def test_a_load_that_was_seen_is_watched_and_waited_for_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = Turns(monkeypatch, QUIET, BUSY, QUIET, QUIET)
    assert [turns.take(number) for number in range(3)] == [True, True, True]
    assert turns.watched == [frozenset(), frozenset(), {7}, {7}]
    assert turns.num_waits == 2  # before the turn that is taken again, and before the next one
    assert [block.flags for block in turns.live.blocks] == [(), ("FOREIGN_LOAD",), (), ()]


def test_a_turn_that_was_disturbed_in_part_is_not_taken_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = Turns(monkeypatch, BUSY_IN_PART)
    assert turns.take(0)
    [block] = turns.live.blocks
    assert (block.disturbed_samples, block.samples_s) == ((2,), [0.1, 0.1])


@pytest.mark.parametrize("error", [LaunchEndedError, KeyboardInterrupt])
def test_a_turn_that_ends_without_a_report_is_watched_no_longer(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(monkeypatch)

    def fails(turn: Turn) -> Taken:
        raise error

    turns.live.take_turn = fails
    if error is LaunchEndedError:
        assert turns.take(0)
    else:
        with pytest.raises(error):
            turns.take(0)
    assert turns.ended == [1]
