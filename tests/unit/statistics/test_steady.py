"""The labels of a launch's trace."""

import math

import numpy as np
import pytest

from benchmarks.statistics.steady import change_points, classify

NUM_TRACES = 200


def trace(generator, *, size=80, phi=0.6, deviation=0.03):
    values = [generator.standard_normal()]
    for shock in generator.standard_normal(size - 1) * math.sqrt(1 - phi**2):
        values.append(phi * values[-1] + shock)
    return 0.1 * np.exp(deviation * np.asarray(values))


def test_stationary_traces_with_alike_neighbours_are_flat():
    generator = np.random.default_rng(5)
    sizes = (20, 60, 80, 160)
    labels = [classify(trace(generator, size=s)) for s in sizes for _ in range(NUM_TRACES)]
    assert labels.count("flat") >= 0.9 * len(labels)


@pytest.mark.parametrize(
    ("factors", "label"),
    [
        ((1.3, 1.0), "warmup"),
        ((1.0, 1.3), "slowdown"),
        ((1.0, 1.0, 1.0, 1.0, 1.3), "no_steady_state"),
        ((1.3, 1.0, 1.15), "slowdown"),
        ((1.0, 1.0), "flat"),
    ],
)
def test_changes_of_level_get_their_label(factors, label):
    generator = np.random.default_rng(11)
    labels = []
    for _ in range(50):
        levels = np.concatenate([[f] * (80 // len(factors)) for f in factors])
        labels.append(classify(trace(generator, size=len(levels), phi=0.0) * levels))
    assert labels.count(label) >= 45


def test_spikes_are_no_change():
    generator = np.random.default_rng(12)
    steps = trace(generator, phi=0.0)
    steps[::13] *= 3
    assert classify(steps) == "flat"


def test_a_change_below_one_percent_is_none():
    steps = [0.1] * 20 + [0.1005] * 30
    assert classify(steps) == "flat"
    assert classify([0.1] * 20 + [0.12] * 40) == "slowdown"


def test_short_traces_are_flat():
    assert classify([]) == "flat"
    assert classify([0.1, 0.5, 0.1, 0.5]) == "flat"


def test_refuses_a_time_that_is_none():
    with pytest.raises(ValueError, match="finite seconds above 0"):
        classify([0.1, math.nan])


def test_change_points_are_where_the_level_changes():
    values = np.concatenate([np.zeros(10), np.full(15, 9.0), np.full(5, -9.0)])
    assert change_points(values, penalty=10.0) == [10, 25]
    assert change_points(values, penalty=1e6) == []


def test_change_points_leave_segments_of_five():
    values = np.concatenate([np.zeros(10), np.full(3, 9.0), np.zeros(10)])
    points = change_points(values, penalty=1.0)
    assert points
    assert min(np.diff([0, *points, len(values)])) >= 5
