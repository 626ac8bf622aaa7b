"""Paired ratios and verdicts, with a simulated machine that drifts and spikes."""

import math

import numpy as np
import pytest

from benchmarks.statistics.intervals import holm, log_mean
from benchmarks.statistics.launch_ratio import hodges_lehmann
from benchmarks.statistics.ratios import paired_ratio, ratio_of, superiority_p_values, verdict
from benchmarks.statistics.sharing import Prior

NUM_RUNS = 2000


def simulate(seed, *, num_cohorts, true_ratio, num_rounds=15):
    """Log-ratios of cohorts (runs, cohorts): launch effects, shared AR(1) drift and spikes."""
    generator = np.random.default_rng(seed)
    shape = (NUM_RUNS, num_cohorts, num_rounds)
    drift = np.zeros(shape)
    drift[..., 0] = generator.standard_normal(shape[:2])
    for r in range(1, num_rounds):
        drift[..., r] = 0.9 * drift[..., r - 1] + math.sqrt(0.19) * generator.standard_normal(
            shape[:2]
        )

    def log_times(level):
        launch = 0.02 * generator.standard_normal((*shape[:2], 1))
        noise = 0.03 * generator.standard_normal(shape)
        spikes = (generator.random(shape) < 0.03) * generator.uniform(0.3, 1.0, shape)
        return level + launch + 0.03 * drift + noise + spikes

    rounds = log_times(math.log(true_ratio)) - log_times(0.0)
    return [[hodges_lehmann(cohort) for cohort in run] for run in rounds]


@pytest.mark.parametrize("num_cohorts", [3, 5, 10])
def test_interval_covers_the_true_ratio_as_often_as_it_says(num_cohorts):
    runs = simulate(num_cohorts, num_cohorts=num_cohorts, true_ratio=1.1)
    ratios = [paired_ratio(run) for run in runs]
    covered = np.mean([ratio.low <= 1.1 <= ratio.high for ratio in ratios])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("num_cohorts", [3, 5, 10])
def test_equal_programs_are_seldom_told_apart(num_cohorts):
    runs = simulate(100 + num_cohorts, num_cohorts=num_cohorts, true_ratio=1.0)
    ratios = [paired_ratio(run) for run in runs]
    excluded = np.mean([not ratio.low <= 1.0 <= ratio.high for ratio in ratios])
    told_apart = np.mean([verdict(ratio) in ("faster", "slower") for ratio in ratios])
    assert 0.03 <= excluded <= 0.07
    assert told_apart <= 0.05


def test_a_large_difference_is_found_in_the_right_direction():
    runs = simulate(7, num_cohorts=5, true_ratio=1.3)
    verdicts = [verdict(paired_ratio(run)) for run in runs]
    assert np.mean([v == "faster" for v in verdicts]) > 0.95
    assert "slower" not in verdicts


def test_a_prior_moderates_the_variance_and_adds_degrees_of_freedom():
    prior = Prior(variance=4e-4, degrees_of_freedom=6)
    ratio = paired_ratio([0.0, 0.02, 0.04], prior=prior)
    # variance of the values 4e-4, as the prior's; t(0.975, 8) = 2.3060
    assert ratio.degrees_of_freedom == 8
    assert ratio.half_width == pytest.approx(2.3060 * 0.02 / math.sqrt(3), rel=1e-4)
    assert paired_ratio([0.0, 0.02, 0.04]).degrees_of_freedom == 2
    assert ratio.ratio == paired_ratio([0.0, 0.02, 0.04]).ratio


def test_a_prior_decides_what_three_launches_alone_cannot():
    values = [0.04, 0.06, 0.08]
    assert verdict(paired_ratio(values)) == "cant_tell"
    assert verdict(paired_ratio(values, prior=Prior(4e-4, 8))) == "faster"


def test_a_prior_gives_one_cohort_no_interval_and_two_no_verdict():
    prior = Prior(variance=1e-6, degrees_of_freedom=20)
    assert paired_ratio([0.5], prior=prior).half_width is None
    assert verdict(paired_ratio([0.5, 0.5], prior=prior)) == "cant_tell"


def test_a_ratio_has_the_interval_of_its_mean():
    mean = log_mean([0.1, 0.2, 0.3])
    assert ratio_of(mean) == paired_ratio([0.1, 0.2, 0.3])
    assert ratio_of(mean).high == pytest.approx(math.exp(0.2 + mean.half_width))


def test_one_cohort_has_a_ratio_without_interval_or_verdict():
    ratio = paired_ratio([1.0])
    assert ratio.ratio == pytest.approx(math.e)
    assert (ratio.low, ratio.high, ratio.half_width) == (None, None, None)
    assert superiority_p_values(ratio) == (1.0, 1.0)
    assert verdict(ratio) == "cant_tell"


def test_two_cohorts_have_an_interval_and_no_verdict():
    ratio = paired_ratio([1.0, 1.0])
    assert ratio.low > 2
    assert verdict(ratio) == "cant_tell"


def test_zero_variance_is_no_certainty():
    ratio = paired_ratio([0.0] * 3, floor=1e-2)
    assert ratio.half_width == pytest.approx(4.30265e-2 / math.sqrt(3), rel=1e-4)
    assert verdict(ratio) == "cant_tell"
    assert verdict(paired_ratio([0.0] * 3)) == "same"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_a_number_gives_no_verdict(bad):
    with pytest.raises(ValueError, match="expected one finite number or more"):
        paired_ratio([0.5, bad, 0.5])


def test_no_cohorts_give_no_ratio():
    with pytest.raises(ValueError, match="expected one finite number or more"):
        paired_ratio([])


def test_verdicts_by_the_margin():
    assert verdict(_spread_about(1.30)) == "faster"
    assert verdict(_spread_about(0.70)) == "slower"
    assert verdict(_spread_about(1.001)) == "same"
    assert verdict(_spread_about(1.015)) == "cant_tell"
    assert verdict(_spread_about(1.015), margin=0.05) == "same"


def test_a_difference_within_the_margin_is_not_faster_however_well_it_is_known():
    ratio = paired_ratio([math.log(1.01)] * 5)
    assert ratio.low > 1
    assert verdict(ratio) == "same"


def test_many_comparisons_ask_for_stronger_evidence():
    ratio = _spread_about(1.03, spread=0.006)
    alone = superiority_p_values(ratio).two_sided
    assert 0.005 < alone <= 0.05
    assert verdict(ratio) == "faster"
    assert verdict(ratio, adjusted_p=holm([alone] * 11)[0]) == "cant_tell"


def test_a_smaller_level_asks_for_stronger_evidence_of_sameness_too():
    faster, same = _spread_about(1.03, spread=0.006), _spread_about(1.001)
    assert verdict(faster, level=0.04) == "faster"
    assert verdict(same, level=0.04) == "same"
    assert verdict(faster, level=0.001) == verdict(same, level=0.001) == "cant_tell"


def test_p_values_of_both_directions():
    faster, slower = superiority_p_values(_spread_about(1.30))
    assert faster < 0.001
    assert slower > 0.999


def _spread_about(ratio, spread=0.008):
    return paired_ratio([math.log(ratio) + spread * shift for shift in (-1, -0.5, 0, 0.5, 1)])
