from __future__ import annotations

import pytest

from tests.overhead.busy_loop import Phase, phase_at, refuse_wrong_load


@pytest.mark.parametrize(
    ("elapsed_s", "expected"),
    [
        (0.0, Phase(is_busy=True, left_s=0.5)),
        (0.25, Phase(is_busy=True, left_s=0.25)),
        (0.5, Phase(is_busy=False, left_s=1.5)),
        (1.75, Phase(is_busy=False, left_s=0.25)),
        (2.0, Phase(is_busy=True, left_s=0.5)),
        (2.5, Phase(is_busy=False, left_s=1.5)),
    ],
)
def test_each_period_begins_with_its_busy_share(elapsed_s: float, expected: Phase) -> None:
    assert phase_at(elapsed_s, duty=0.25, period_s=2.0) == expected


def test_phases_follow_each_other_without_gaps_and_are_busy_for_the_duty() -> None:
    elapsed_s, busy_s = 0.0, 0.0
    for _ in range(8):
        phase = phase_at(elapsed_s, duty=0.75, period_s=4.0)
        busy_s += phase.left_s if phase.is_busy else 0.0
        elapsed_s += phase.left_s
    assert (elapsed_s, busy_s) == (16.0, 12.0)


def test_a_duty_of_one_is_always_busy() -> None:
    assert all(phase_at(at / 4, duty=1.0, period_s=0.5).is_busy for at in range(12))


@pytest.mark.parametrize(("duty", "period_s"), [(0.0, 1.0), (1.5, 1.0), (0.5, 0.0), (0.5, -1.0)])
def test_refuses_a_load_that_there_is_not(duty: float, period_s: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        refuse_wrong_load(duty, period_s)
