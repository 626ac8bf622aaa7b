from __future__ import annotations

import math

import pytest

from tests.overhead.dyno_runs import half_width, median_of


def test_the_half_width_is_that_of_the_logarithm() -> None:
    assert half_width({"low": 0.8, "high": 0.8 * math.exp(0.1)}) == pytest.approx(0.05)


@pytest.mark.parametrize(("low", "high"), [(None, None), (0.9, None)])
def test_without_an_interval_there_is_no_half_width(low: float | None, high: float | None) -> None:
    assert half_width({"low": low, "high": high}) is None


def test_nothing_has_no_median() -> None:
    assert (median_of([]), median_of([3.0, 1.0, 2.0])) == (None, 2.0)
