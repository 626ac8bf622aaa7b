"""What more measuring would buy."""

import numpy as np
import pytest

from benchmarks.statistics.effort import (
    LaunchValue,
    Variances,
    best_rounds,
    cohorts_to_decide,
    error_of_rounds,
    more_launches_to_halve,
    variances,
    within_variance,
)
from benchmarks.statistics.intervals import log_mean
from benchmarks.statistics.launch_ratio import experienced_log_ratio, undisturbed_log_ratio
from benchmarks.statistics.ratios import paired_ratio, verdict
from benchmarks.statistics.sharing import Prior


def test_the_variance_within_of_a_quantile_is_known_within_a_factor_of_two():
    generator = np.random.default_rng(1)
    estimates, within = [], []
    for _ in range(200):
        base, case = _rounds(generator, num_rounds=12)
        estimates.append(undisturbed_log_ratio(base, case))
        within.append(within_variance(base, case, log_ratio=undisturbed_log_ratio))
    assert 0.5 <= np.mean(within) / 12 / np.var(estimates) <= 2


def test_the_variance_within_of_means_is_about_that_of_one_round():
    generator = np.random.default_rng(2)
    within = [
        within_variance(
            *np.exp(0.05 * generator.standard_normal((2, 10))), log_ratio=experienced_log_ratio
        )
        for _ in range(400)
    ]
    assert 1 <= np.mean(within) / (2 * 0.05**2) <= 1.4


def test_one_round_does_not_tell_its_variance():
    assert within_variance([0.1], [0.2], log_ratio=experienced_log_ratio) is None
    assert within_variance([0.1] * 3, [0.2] * 3, log_ratio=experienced_log_ratio) == 0.0


def test_variances_are_told_apart_without_bias():
    generator = np.random.default_rng(1)
    found = []
    for _ in range(500):
        rounds = 0.02 * generator.standard_normal((10, 1)) + 0.05 * generator.standard_normal(
            (10, 8)
        )
        found.append(variances([LaunchValue(one.mean(), np.var(one, ddof=1), 8) for one in rounds]))
    assert np.mean([v.within for v in found]) == pytest.approx(0.05**2, rel=0.05)
    assert np.mean([v.between for v in found]) == pytest.approx(0.02**2, rel=0.15)


def test_variances_need_two_launches_of_two_rounds():
    known, unknown = LaunchValue(0.1, 1e-4, 4), LaunchValue(0.2, None, 1)
    assert variances([known, unknown]) is None
    assert variances([]) is None
    assert variances([known, known]) == Variances(within=1e-4, between=-1e-4 / 4)


def test_the_error_of_rounds_is_that_of_their_mean_without_what_they_share():
    generator = np.random.default_rng(3)
    errors = []
    for _ in range(400):
        drift = generator.normal(0, 0.3, (8, 1))
        noise = generator.normal(0, 0.05, (8, 4))
        errors.append(error_of_rounds(np.exp(np.log([1, 2, 3, 4]) + drift + noise).tolist()))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(0.05 * np.sqrt(2 / 8), rel=0.05)


@pytest.mark.parametrize("turns", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[], []]])
def test_one_round_or_one_launch_has_no_error(turns):
    assert error_of_rounds(turns) is None


@pytest.mark.parametrize("turns", [[[1.0, 2.0], [1.0]], [[1.0, 0.0], [1.0, 1.0]]])
def test_the_error_of_rounds_refuses_what_is_no_round(turns):
    with pytest.raises(ValueError, match="as many finite numbers above 0 in each round"):
        error_of_rounds(turns)


def test_best_rounds_follow_the_formula():
    parts = Variances(within=4.0, between=1.0)
    assert best_rounds(parts, round_s=1.0, launch_s=25.0, max_rounds=40) == 10
    assert best_rounds(parts, round_s=1.0, launch_s=25.0, max_rounds=8) == 8
    assert best_rounds(Variances(0.0, 1.0), round_s=1.0, launch_s=25.0, max_rounds=8) == 1


def test_rounds_that_explain_everything_are_taken_to_the_limit():
    assert best_rounds(Variances(1.0, -0.1), round_s=1, launch_s=1, max_rounds=20) == 20


def test_two_more_launches_halve_the_interval_of_three():
    # t(0.975, 2) / sqrt(3) = 2.4841, t(0.975, 3) / sqrt(4) = 1.5912, t(0.975, 4) / sqrt(5) = 1.2417
    assert more_launches_to_halve(log_mean([0.0, 0.01, 0.02])) == 2
    assert more_launches_to_halve(log_mean([0.0])) is None


def test_with_shared_variance_halving_takes_four_times_the_launches():
    prior = Prior(variance=1e-4, degrees_of_freedom=1000)
    mean = paired_ratio([0.0, 0.01, 0.02], prior=prior).log_mean
    assert more_launches_to_halve(mean) == 9


def test_what_is_decided_and_narrow_needs_no_more_cohorts():
    assert cohorts_to_decide(paired_ratio(_about(0.3)), target_half_width=0.05, level=0.05) == 0


def test_the_nearer_to_the_margin_the_more_cohorts():
    needed = [
        cohorts_to_decide(paired_ratio(_about(log)), target_half_width=0.05, level=0.05)
        for log in (0.0, 0.010, 0.015)
    ]
    assert needed[0] < needed[1] < needed[2]


def test_a_narrower_target_and_a_smaller_level_take_more_cohorts():
    ratio = paired_ratio(_about(0.04))
    least = cohorts_to_decide(ratio, target_half_width=0.05, level=0.05)
    assert cohorts_to_decide(ratio, target_half_width=0.005, level=0.05) > least
    assert cohorts_to_decide(ratio, target_half_width=0.05, level=0.001) > least


def test_advice_holds_when_it_is_followed():
    """Values repeated as often have the same estimate and nearly the same spread."""
    values = _about(0.03)
    more = cohorts_to_decide(paired_ratio(values), target_half_width=0.01, level=0.05)
    num_times = 1 + -(-more // len(values))
    later = paired_ratio(values * num_times)
    assert verdict(later) == "faster"
    assert later.half_width <= 0.01
    assert verdict(paired_ratio(values)) == "cant_tell" or paired_ratio(values).half_width > 0.01


def test_two_cohorts_need_a_third_for_a_verdict():
    assert cohorts_to_decide(paired_ratio([0.3, 0.3]), target_half_width=0.05, level=0.05) == 1


def test_there_is_no_advice_without_a_spread_or_on_the_margin_itself():
    assert cohorts_to_decide(paired_ratio([0.1]), target_half_width=0.1, level=0.05) is None
    on_it = paired_ratio(_about(np.log(1.02)))
    assert cohorts_to_decide(on_it, target_half_width=0.1, level=0.05) is None


def _about(log):
    return [log + shift for shift in (-0.012, 0.0, 0.012)]


def _rounds(generator, *, num_rounds):
    """Turns of four steps; some turns are slower as a whole."""
    turns = 0.05 * generator.standard_exponential((2, num_rounds, 1))
    return 0.1 * np.exp(turns + 0.02 * generator.standard_exponential((2, num_rounds, 4)))
