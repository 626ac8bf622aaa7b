"""Paired ratios and verdicts, with a simulated machine that drifts and spikes."""

import math

import numpy as np
import pytest

from benchmarks.statistics.intervals import holm
from benchmarks.statistics.ratios import (
    paired_ratio,
    superiority_p_values,
    trimmed_mean,
    verdict,
)

NUM_RUNS = 2000


def simulate(seed, *, num_cohorts, true_ratio, num_rounds=15):
    """Log-ratios (runs, cohorts, rounds) with launch effects, shared AR(1) drift and spikes."""
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

    return log_times(math.log(true_ratio)) - log_times(0.0)


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


def test_trimmed_mean_drops_a_fifth_at_either_end():
    assert trimmed_mean([100.0, 1.0, 2.0, 3.0, -50.0]) == 2.0
    assert trimmed_mean([1.0, 2.0, 6.0]) == 3.0


def test_cohorts_may_have_unlike_numbers_of_rounds():
    ratio = paired_ratio([[0.1] * 3, [0.2] * 12, [], [0.3]])
    assert ratio.num_launches == 3
    assert ratio.ratio == pytest.approx(math.exp(0.2))


def test_one_cohort_has_a_ratio_without_interval_or_verdict():
    ratio = paired_ratio([[1.0, 1.0, 1.0]])
    assert ratio.ratio == pytest.approx(math.e)
    assert (ratio.low, ratio.high, ratio.half_width) == (None, None, None)
    assert superiority_p_values(ratio) == (1.0, 1.0)
    assert verdict(ratio) == "cant_tell"


def test_two_cohorts_have_an_interval_and_no_verdict():
    ratio = paired_ratio([[1.0], [1.0]])
    assert ratio.low > 2
    assert verdict(ratio) == "cant_tell"


def test_zero_variance_is_no_certainty():
    ratio = paired_ratio([[0.0, 0.0]] * 3, floor=1e-2)
    assert ratio.half_width == pytest.approx(4.30265e-2 / math.sqrt(3), rel=1e-4)
    assert verdict(ratio) == "cant_tell"
    assert verdict(paired_ratio([[0.0, 0.0]] * 3)) == "same"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_a_number_gives_no_verdict(bad):
    with pytest.raises(ValueError, match="not finite"):
        paired_ratio([[0.5], [0.5, bad], [0.5]])


def test_no_rounds_give_no_ratio():
    with pytest.raises(ValueError, match="expected one finite number or more"):
        paired_ratio([[], []])


def test_verdicts_by_the_margin():
    assert verdict(_spread_about(1.30)) == "faster"
    assert verdict(_spread_about(0.70)) == "slower"
    assert verdict(_spread_about(1.001)) == "same"
    assert verdict(_spread_about(1.015)) == "cant_tell"
    assert verdict(_spread_about(1.015), margin=0.05) == "same"


def test_a_difference_within_the_margin_is_not_faster_however_well_it_is_known():
    ratio = paired_ratio([[math.log(1.01)]] * 5)
    assert ratio.low > 1
    assert verdict(ratio) == "same"


def test_many_comparisons_ask_for_stronger_evidence():
    ratio = _spread_about(1.03, spread=0.006)
    alone = superiority_p_values(ratio).two_sided
    assert 0.005 < alone <= 0.05
    assert verdict(ratio) == "faster"
    assert verdict(ratio, adjusted_p=holm([alone] * 11)[0]) == "cant_tell"


def test_p_values_of_both_directions():
    faster, slower = superiority_p_values(_spread_about(1.30))
    assert faster < 0.001
    assert slower > 0.999


def _spread_about(ratio, spread=0.008):
    return paired_ratio([[math.log(ratio) + spread * shift] for shift in (-1, -0.5, 0, 0.5, 1)])
