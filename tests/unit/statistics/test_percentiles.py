"""A percentile is said with the samples that it needs, and as a bound that holds."""

import math

import numpy as np
import pytest

from benchmarks.statistics.percentiles import percentile_of, required_samples, tail_bound


@pytest.mark.parametrize(
    ("percentile", "num_exceedances", "expected"),
    [
        *((90, 1, 64), (95, 1, 130), (99, 1, 662), (99.9, 1, 6636)),
        *((90, 0, 44), (99, 0, 459), (90, 5, 127), (99, 5, 1307), (99, 10, 2010)),
    ],
)
def test_the_samples_that_it_takes_are_mlperfs(percentile, num_exceedances, expected):
    assert required_samples(percentile, num_exceedances=num_exceedances) == expected


def test_a_median_takes_eight():
    assert required_samples(50) == 8
    assert percentile_of([1.0] * 7, 50) is None
    assert percentile_of(range(1, 10), 50) == 5


@pytest.mark.parametrize("percentile", [0, 49.9, 100, 101])
def test_refuses_what_is_no_upper_percentile(percentile):
    with pytest.raises(ValueError, match="expected 50 or more"):
        required_samples(percentile)


def test_one_sample_too_few_gives_no_bound_and_says_so():
    samples = np.random.default_rng(0).permutation(661).astype(float)
    bound = tail_bound([samples], 99)
    assert bound.bound is None
    assert bound.reason == "661 of the 662 samples that it needs"


def test_at_the_least_samples_the_bound_is_the_largest():
    samples = np.random.default_rng(0).permutation(662).astype(float)
    bound = tail_bound([samples[:400], samples[400:]], 99)
    assert (bound.bound, bound.reason) == (661.0, None)


def test_more_samples_bring_the_bound_down():
    samples = np.random.default_rng(0).permutation(1307).astype(float)
    assert tail_bound([samples], 99).bound == 1307 - 5


@pytest.mark.parametrize(("percentile", "num_samples"), [(90, 64), (90, 300), (99, 700)])
def test_the_bound_is_too_low_in_one_of_a_hundred_at_most(percentile, num_samples):
    generator = np.random.default_rng(7)
    truth = -math.log(1 - percentile / 100)
    bounds = [
        tail_bound([generator.exponential(size=num_samples)], percentile).bound for _ in range(1000)
    ]
    known = [bound for bound in bounds if bound is not None]
    assert len(known) > 900
    assert np.mean(np.array(known) < truth) <= 0.02


def test_slow_requests_that_come_in_runs_count_for_fewer():
    runs = np.repeat([1.0, 2.0], [980, 20])
    spread = np.where(np.arange(1000) % 50 == 0, 2.0, 1.0)
    assert tail_bound([runs], 99).bound is None
    assert tail_bound([runs], 99).num_needed > 6620
    assert tail_bound([spread], 99).bound is not None


def test_launches_do_not_touch():
    """The last request of one launch is no neighbour of the next one's first."""
    calm, slow = [1.0] * 500, [1.0] * 499
    assert tail_bound([[*slow, 2.0], [2.0, *calm]], 99).num_needed == 662


def test_no_samples_are_too_few():
    assert tail_bound([], 90).reason == "0 of the 64 samples that it needs"
    assert tail_bound([[]], 90).bound is None
    assert percentile_of([], 50) is None


def test_refuses_a_sample_that_is_not_finite():
    with pytest.raises(ValueError, match="finite"):
        tail_bound([[1.0, math.nan]], 90)
