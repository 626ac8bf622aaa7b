"""Confidence intervals over launches, and p-values of several comparisons.

The launch is the unit of replication: rounds of one launch share its luck (autotuning, memory
layout), so reported intervals never come from rounds. Times are compared as logarithms, since a
ratio is a difference of these. Pure functions on numbers: NumPy, and SciPy inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RELATIVE_RESOLUTION = 1e-6
"""Lower limit of a relative standard deviation: a 100 ns clock over a block of 0.1 s."""


@dataclass(frozen=True)
class LogMean:
    """The mean of logarithms, one for each launch, with its standard error."""

    mean: float
    standard_error: float | None
    """None with a single launch."""
    num_launches: int
    degrees_of_freedom: float
    """What the standard error is worth: the number of launches less one, or more if it draws on
    other comparisons (see `benchmarks.statistics.sharing`)."""

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval; None with a single launch."""
        return self.half_width_at(CONFIDENCE)

    def half_width_at(self, confidence: float) -> float | None:
        """Half of the interval: Student's t times the standard error; None with one launch."""
        if self.standard_error is None:
            return None
        return t_quantile((1 + confidence) / 2, self.degrees_of_freedom) * self.standard_error

    @property
    def variance(self) -> float | None:
        """The variance of one launch's logarithm; None with a single launch."""
        return None if self.standard_error is None else self.standard_error**2 * self.num_launches


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval over launches."""

    estimate: float
    low: float | None
    high: float | None
    num_launches: int

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width in logarithms: about the relative half-width."""
        if self.low is None or self.high is None:
            return None
        return math.log(self.high / self.low) / 2

    def scaled(self, factor: float) -> Interval:
        """The interval in another unit."""
        low, high = (None if one is None else factor * one for one in (self.low, self.high))
        return Interval(factor * self.estimate, low, high, self.num_launches)


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, probability))


def t_upper_tail(value: float, degrees_of_freedom: float) -> float:
    """The probability that Student's t exceeds the value."""
    from scipy.special import stdtr

    return float(stdtr(degrees_of_freedom, -value))


def log_mean(logs: Sequence[float], *, floor: float = RELATIVE_RESOLUTION) -> LogMean:
    """The mean of launch-level logarithms with its standard error.

    `floor` is a lower limit of the standard deviation: equal values come from a coarse clock, not
    from certainty. Raises ValueError if there is no value or one is not finite.
    """
    values = np.asarray(logs, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"received {values.tolist()}, expected one finite number or more")
    if values.size == 1:
        return LogMean(float(values[0]), None, 1, degrees_of_freedom=0)
    deviation = max(float(np.std(values, ddof=1)), floor)
    return LogMean(
        mean=float(values.mean()),
        standard_error=deviation / math.sqrt(values.size),
        num_launches=values.size,
        degrees_of_freedom=values.size - 1,
    )


def log_t_interval(
    values_per_launch: Sequence[float], *, floor: float = RELATIVE_RESOLUTION
) -> Interval:
    """The geometric mean over launches with its t interval; no bounds for a single launch.

    `floor` as in `log_mean`. Raises ValueError if there is no value, or one is not a finite number
    above 0.
    """
    mean = log_mean(_logs(values_per_launch), floor=floor)
    half = mean.half_width
    low = None if half is None else math.exp(mean.mean - half)
    high = None if half is None else math.exp(mean.mean + half)
    return Interval(math.exp(mean.mean), low, high, mean.num_launches)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted so that the chance of any false claim among them keeps its level.

    Source: Holm (1979), the step-down form. The order is kept.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"received p_values={list(p_values)}, expected numbers from 0 to 1")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _logs(values: Sequence[float]) -> list[float]:
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"received values {list(values)}, expected finite numbers above 0")
    return [math.log(value) for value in values]
