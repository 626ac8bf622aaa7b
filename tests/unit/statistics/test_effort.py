"""What more measuring would buy."""

import math

import numpy as np
import pytest

from benchmarks.statistics.effort import (
    Variances,
    best_rounds,
    launches_for,
    more_launches_to_halve,
    variances,
)
from benchmarks.statistics.intervals import log_mean


def test_variances_are_told_apart_without_bias():
    generator = np.random.default_rng(1)
    found = []
    for _ in range(500):
        launches = 0.02 * generator.standard_normal((10, 1))
        found.append(variances(launches + 0.05 * generator.standard_normal((10, 8))))
    assert np.mean([v.within for v in found]) == pytest.approx(0.05**2, rel=0.05)
    assert np.mean([v.between for v in found]) == pytest.approx(0.02**2, rel=0.15)


def test_variances_need_two_launches_of_two_rounds():
    assert variances([[1.0, 2.0], [1.0]]) is None
    assert variances([]) is None


def test_best_rounds_follow_the_formula():
    parts = Variances(within=4.0, between=1.0)
    assert best_rounds(parts, round_s=1.0, launch_s=25.0, max_rounds=40) == 10
    assert best_rounds(parts, round_s=1.0, launch_s=25.0, max_rounds=8) == 8
    assert best_rounds(Variances(0.0, 1.0), round_s=1.0, launch_s=25.0, max_rounds=8) == 1


def test_rounds_that_explain_everything_are_taken_to_the_limit():
    assert best_rounds(Variances(1.0, -0.1), round_s=1, launch_s=1, max_rounds=20) == 20


def test_launches_for_a_half_width():
    # t(0.975, 4) / sqrt(5) = 1.2417 and t(0.975, 3) / sqrt(4) = 1.5912
    assert launches_for(0.01, half_width=0.0125) == 5
    assert launches_for(0.01, half_width=0.0160) == 4
    assert launches_for(1.0, half_width=1e-6) is None


def test_two_more_launches_halve_the_interval_of_three():
    assert more_launches_to_halve(log_mean([0.0, 0.01, 0.02])) == 2
    assert more_launches_to_halve(log_mean([0.0])) is None


def test_advice_holds_when_it_is_followed():
    mean = log_mean([0.0, 0.01, 0.02, 0.01, 0.0])
    more = more_launches_to_halve(mean)
    deviation = mean.standard_error * math.sqrt(mean.num_launches)
    assert launches_for(deviation, half_width=mean.half_width / 2) == mean.num_launches + more
