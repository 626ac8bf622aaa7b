"""The log-ratio of one launch to another, on a simulated machine of two speeds."""

import math

import numpy as np
import pytest

from benchmarks.statistics.launch_ratio import (
    experienced_log_ratio,
    hodges_lehmann,
    undisturbed,
    undisturbed_log_ratio,
)
from tests.unit.statistics.machine import SLOW, turns


def test_hodges_lehmann_is_the_median_of_pairwise_means():
    assert hodges_lehmann([1.0, 2.0, 9.0]) == 3.5  # of 1, 1.5, 2, 5, 5.5 and 9
    assert hodges_lehmann([4.0]) == 4.0
    assert hodges_lehmann([1.0, 2.0]) == 1.5


def test_a_spike_hardly_moves_hodges_lehmann():
    calm = [0.1, 0.11, 0.09, 0.1]
    assert hodges_lehmann([*calm, 50.0]) == pytest.approx(hodges_lehmann(calm), abs=0.01)


def test_hodges_lehmann_is_nearly_as_sharp_as_the_mean():
    draws = np.random.default_rng(1).standard_normal((2000, 9))
    found = [hodges_lehmann(draw) for draw in draws]
    assert np.std(found) < 1.05 / 3


def test_hodges_lehmann_takes_hundreds_of_values():
    assert hodges_lehmann(list(range(601))) == 300


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf]])
def test_hodges_lehmann_refuses_what_has_no_centre(bad):
    with pytest.raises(ValueError, match="expected one finite number or more"):
        hodges_lehmann(bad)


def test_undisturbed_is_the_low_decile_and_of_few_samples_the_least():
    assert undisturbed(range(1, 101)) == pytest.approx(10.37, abs=0.01)
    assert undisturbed([3.0, 1.0, 2.0, 4.0, 5.0, 6.0]) == 1.0
    assert undisturbed([0.5]) == 0.5


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [1.0, 0.0], [-1.0]])
def test_undisturbed_refuses_what_is_no_time(bad):
    with pytest.raises(ValueError, match="expected finite numbers above 0"):
        undisturbed(bad)


def test_a_case_that_is_twice_as_fast_has_the_log_of_two():
    base, case = [[0.2, 0.21, 0.22]] * 4, [[0.1, 0.105, 0.11]] * 4
    assert undisturbed_log_ratio(base, case) == pytest.approx(math.log(2))
    assert experienced_log_ratio([0.21] * 4, [0.105] * 4) == pytest.approx(math.log(2))


def test_rounds_may_have_unlike_numbers_of_samples():
    assert undisturbed_log_ratio([[0.2], [0.2, 0.3, 0.4]], [[0.1, 0.1], [0.1]]) == pytest.approx(
        math.log(2)
    )


def test_slow_turns_of_one_launch_are_not_its_speed():
    base, case = [[0.1] * 3] * 6, [[0.1] * 3] * 4 + [[0.14] * 3] * 2
    assert undisturbed_log_ratio(base, case) == 0.0


def test_a_fast_state_that_came_in_one_turn_only_is_not_compared_with_the_slow_one():
    slow, fast = [0.1 * math.exp(SLOW)] * 3, [0.1] * 3
    assert undisturbed_log_ratio([slow] * 5 + [fast], [slow] * 6) == 0.0


def test_a_third_of_the_rounds_confirms_the_fast_state():
    """Two of six rounds met the fast state in both turns, the others in that of the base alone."""
    slow, fast = [0.1 * math.exp(SLOW)] * 3, [0.1] * 3
    assert undisturbed_log_ratio([fast] * 6, [fast] * 2 + [slow] * 4) == 0.0
    assert undisturbed_log_ratio([fast] * 6, [fast] + [slow] * 5) == pytest.approx(-SLOW)


@pytest.mark.parametrize("log_ratio", [undisturbed_log_ratio, experienced_log_ratio])
def test_unlike_numbers_of_rounds_are_refused(log_ratio):
    one = [0.1] if log_ratio is undisturbed_log_ratio else 0.1
    with pytest.raises(ValueError, match="received 1 rounds of the base and 2 of the case"):
        log_ratio([one], [one, one])
    with pytest.raises(ValueError, match="received 0 rounds"):
        log_ratio([], [])


def test_a_turn_without_a_sample_is_refused():
    with pytest.raises(ValueError, match="expected finite numbers above 0"):
        undisturbed_log_ratio([[0.1], []], [[0.1], [0.1]])


def test_experienced_keeps_what_undisturbed_leaves_out():
    """Every other step of the case pauses for as long as it takes."""
    base, case = [[0.1] * 4] * 5, [[0.1, 0.2, 0.1, 0.2]] * 5
    assert undisturbed_log_ratio(base, case) == 0.0
    means = [[float(np.mean(turn)) for turn in rounds] for rounds in (base, case)]
    assert experienced_log_ratio(*means) == pytest.approx(math.log(0.1 / 0.15))


@pytest.mark.parametrize(("slow_share", "largest"), [(0.15, 0.01), (0.43, 0.03), (0.85, 0.07)])
def test_two_speeds_hardly_disturb_it(slow_share, largest):
    assert _error(_undisturbed, slow_share) <= largest


@pytest.mark.parametrize("slow_share", [0.15, 0.43])
def test_on_a_machine_that_is_often_fast_undisturbed_is_sharper_than_experienced(slow_share):
    assert _error(_undisturbed, slow_share) < 0.7 * _error(_experienced, slow_share)


def test_on_a_machine_that_is_seldom_fast_quantiles_alone_would_be_worse():
    assert _error(_undisturbed, 0.85) < 0.5 * _error(_by_quantiles_alone, 0.85)


def _error(estimate, slow_share):
    """The root mean square of its error, with 9 rounds of 6 steps."""
    base, case = turns(
        np.random.default_rng(1), num_runs=300, num_rounds=9, num_steps=6, slow_share=slow_share
    )
    errors = [estimate(*run) for run in zip(base, case, strict=True)]
    return float(np.sqrt(np.mean(np.square(errors))))


def _undisturbed(base, case):
    return undisturbed_log_ratio(base, case)


def _experienced(base, case):
    return experienced_log_ratio(base.mean(axis=1), case.mean(axis=1))


def _by_quantiles_alone(base, case):
    return math.log(undisturbed(base.ravel()) / undisturbed(case.ravel()))
