"""Variance that comparisons share: the interval is narrower and covers as often as it says."""

import math

import numpy as np
import pytest

from benchmarks.statistics.ratios import paired_ratio
from benchmarks.statistics.sharing import (
    MAX_DEGREES_OF_FREEDOM,
    Prior,
    Spread,
    fit_prior,
    moderated,
)
from tests.unit.statistics.machine import log_ratios

NUM_RUNS = 500
ALIKE, ONE_WILD, MIXED = (0.01,) * 4, (0.01, 0.03, 0.01, 0.01), (0.01, 0.03, 0.015, 0.02, 0.03)
CALM_BUT_ONE = (0.005, 0.03, 0.005)


def coverage(seed, *, num_groups, **options):
    """The share of runs in which each case's interval contains its truth, and all half-widths."""
    generator = np.random.default_rng(seed)
    groups = [
        log_ratios(generator, num_runs=NUM_RUNS, **options).swapaxes(1, 2)
        for _ in range(num_groups)
    ]
    runs = [
        [paired_ratio(values, prior=prior) for values in run]
        for run in np.concatenate(groups, axis=1)
        for prior in [fit_prior([_spread(values) for values in run])]
    ]
    covered = np.array([[one.low <= 1 <= one.high for one in run] for run in runs])
    halves = np.array([[one.half_width for one in run] for run in runs])
    return covered.mean(axis=0).reshape(num_groups, -1).mean(axis=0), halves


@pytest.mark.parametrize("num_cohorts", [3, 5, 10])
@pytest.mark.parametrize(
    ("deviations", "num_groups"),
    [
        (ALIKE, 1),
        (ALIKE, 3),
        (ONE_WILD, 1),
        (ONE_WILD, 3),
        (MIXED, 1),
        (MIXED, 2),
        (CALM_BUT_ONE, 1),
    ],
)
def test_each_interval_covers_its_truth(num_cohorts, deviations, num_groups):
    by_case, _ = coverage(
        num_cohorts,
        num_groups=num_groups,
        num_cohorts=num_cohorts,
        deviations=deviations,
        base_deviation=0.01,
        tails="normal",
        states=False,
    )
    assert by_case.min() >= 0.89
    assert 0.93 <= by_case.mean() <= 0.975


@pytest.mark.parametrize("num_cohorts", [3, 5, 10])
@pytest.mark.parametrize("states", [False, True])
def test_heavy_tails_and_two_speeds_leave_it_covered(num_cohorts, states):
    """A miss may be too seldom: outliers widen the intervals, as they do without sharing."""
    by_case, _ = coverage(
        num_cohorts,
        num_groups=2,
        num_cohorts=num_cohorts,
        deviations=ONE_WILD,
        base_deviation=0.01,
        tails="t4",
        states=states,
    )
    assert by_case.min() >= 0.89
    assert 0.93 <= by_case.mean() <= 0.985


def test_a_base_that_varies_most_is_in_every_comparison_and_still_covered():
    by_case, _ = coverage(
        1,
        num_groups=1,
        num_cohorts=3,
        deviations=ALIKE,
        base_deviation=0.03,
        tails="normal",
        states=False,
    )
    assert by_case.min() >= 0.91


def test_three_launches_gain_a_quarter_of_the_width():
    options = {"deviations": ALIKE, "base_deviation": 0.01, "tails": "normal", "states": False}
    _, halves = coverage(1, num_groups=3, num_cohorts=3, **options)
    alone = log_ratios(np.random.default_rng(1), num_runs=NUM_RUNS, num_cohorts=3, **options)
    own = [paired_ratio(values).half_width for run in alone for values in run.T]
    assert np.median(halves) < 0.75 * np.median(own)


def test_the_prior_that_variances_were_drawn_from_is_found():
    generator = np.random.default_rng(1)
    true = 4e-4 * 8 / generator.chisquare(8, 4000)
    spreads = [Spread(v * generator.chisquare(4) / 4, 4) for v in true]
    found = fit_prior(spreads)
    assert found.degrees_of_freedom == pytest.approx(8, rel=0.25)
    assert found.variance == pytest.approx(np.exp(np.mean(np.log(true))), rel=0.05)


def test_alike_variances_are_worth_more_the_more_of_them_there_are():
    def worth(num):
        generator = np.random.default_rng(2)
        return fit_prior([Spread(generator.chisquare(4) / 4, 4) for _ in range(num)])

    assert worth(4).degrees_of_freedom < 8
    assert worth(2000).degrees_of_freedom == pytest.approx(MAX_DEGREES_OF_FREEDOM, rel=0.2)
    assert worth(100000).degrees_of_freedom <= MAX_DEGREES_OF_FREEDOM


def test_unlike_variances_have_nothing_in_common():
    assert fit_prior([Spread(10.0**power, 9) for power in range(-6, 0)]) is None


def test_a_group_that_varies_fifteen_times_as_much_widens_no_other():
    options = {"num_cohorts": 3, "tails": "normal", "states": False}
    generator = np.random.default_rng(4)
    groups = [
        log_ratios(
            generator, num_runs=NUM_RUNS, deviations=(one,) * 4, base_deviation=one, **options
        ).swapaxes(1, 2)
        for one in (0.01, 0.01, 0.15)
    ]
    widths, alone, covered = [], [], []
    for run in np.concatenate(groups, axis=1):
        prior = fit_prior([_spread(values) for values in run])
        ratios = [paired_ratio(values, prior=prior) for values in run]
        covered.append([one.low <= 1 <= one.high for one in ratios])
        widths += [one.half_width for one in ratios[:8]]
        alone += [paired_ratio(values).half_width for values in run[:8]]
    assert np.median(widths) < 1.1 * np.median(alone)
    assert np.mean(covered, axis=0).min() >= 0.9


def test_history_of_other_degrees_of_freedom_counts_too():
    few = [Spread(1e-4, 2)] * 3
    assert (
        fit_prior([*few, *[Spread(1e-4, 9)] * 30]).degrees_of_freedom
        > fit_prior(few).degrees_of_freedom
    )


def test_fewer_than_three_comparisons_share_nothing():
    assert fit_prior([]) is None
    assert fit_prior([Spread(1e-4, 2)] * 2) is None
    assert fit_prior([Spread(1e-4, 2)] * 3) is not None


@pytest.mark.parametrize("bad", [Spread(0.0, 2), Spread(1e-4, 0), Spread(math.nan, 2)])
def test_a_prior_refuses_what_is_no_variance(bad):
    with pytest.raises(ValueError, match="expected finite numbers above 0"):
        fit_prior([Spread(1e-4, 2), bad, Spread(1e-4, 2)])


def test_moderated_is_the_mean_by_degrees_of_freedom():
    found = moderated(4.0, 2, Prior(variance=1.0, degrees_of_freedom=6))
    assert found == Spread(variance=1.75, degrees_of_freedom=8)


def _spread(values):
    return Spread(float(np.var(values, ddof=1)), len(values) - 1)
