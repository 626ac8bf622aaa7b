"""Intervals over launches, effective sample size, Holm."""

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.statistics.intervals import (
    holm,
    log_mean,
    log_t_interval,
)


def test_interval_of_two_launches_is_students():
    interval = log_t_interval([1.0, math.e])
    # mean of the logs 0.5, sd 1/sqrt(2), t(0.975, 1) = 12.7062: half-width 6.3531
    assert interval.estimate == pytest.approx(math.exp(0.5))
    assert math.log(interval.low) == pytest.approx(0.5 - 6.35310, abs=1e-4)
    assert math.log(interval.high) == pytest.approx(0.5 + 6.35310, abs=1e-4)
    assert interval.half_width == pytest.approx(6.35310, abs=1e-4)
    assert interval.num_launches == 2


def test_one_launch_has_no_bounds():
    interval = log_t_interval([0.25])
    assert interval.estimate == pytest.approx(0.25)
    assert (interval.low, interval.high, interval.half_width) == (None, None, None)


def test_a_mean_has_the_variance_of_its_values_and_one_degree_of_freedom_less():
    mean = log_mean([0.0, 0.02, 0.04])
    assert mean.variance == pytest.approx(4e-4)
    assert mean.degrees_of_freedom == 2
    assert (log_mean([0.1]).variance, log_mean([0.1]).half_width) == (None, None)


def test_more_degrees_of_freedom_narrow_the_interval_and_more_confidence_widens_it():
    mean = log_mean([0.0, 0.02, 0.04])
    # t(0.975, 2) = 4.30265, t(0.975, 10) = 2.22814, t(0.995, 2) = 9.92484
    assert mean.half_width == pytest.approx(4.30265 * 0.02 / math.sqrt(3), rel=1e-4)
    assert mean.half_width_at(0.99) == pytest.approx(9.92484 * 0.02 / math.sqrt(3), rel=1e-4)
    shared = dataclasses.replace(mean, degrees_of_freedom=10)
    assert shared.half_width == pytest.approx(2.22814 * 0.02 / math.sqrt(3), rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_refuses_values_without_a_logarithm(bad):
    with pytest.raises(ValueError, match="finite numbers above 0"):
        log_t_interval([1.0, bad, 1.1])


def test_refuses_no_values():
    with pytest.raises(ValueError, match="expected one finite number or more"):
        log_t_interval([])


def test_zero_variance_is_floored_at_the_clock_and_not_certain():
    floored = log_t_interval([2.0, 2.0, 2.0], floor=1e-3)
    # t(0.975, 2) = 4.30265
    assert floored.half_width == pytest.approx(4.30265 * 1e-3 / math.sqrt(3), rel=1e-4)
    assert log_t_interval([2.0, 2.0, 2.0]).half_width > 0


def test_coverage_of_the_interval_is_nominal_at_three_launches():
    generator = np.random.default_rng(1)
    draws = np.exp(0.03 * generator.standard_normal((2000, 3)))
    covered = [low.low <= 1.0 <= low.high for low in map(log_t_interval, draws.tolist())]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_holm_adjusts_in_order_and_keeps_positions():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        holm([0.1, math.nan])
