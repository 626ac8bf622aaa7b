"""How further measuring would narrow an interval: by more launches, or by more rounds.

Source: Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time" (2013), sections 6 and 7,
with the corrected estimate of the variance between launches (the first printing's is biased).
Pure functions on numbers: NumPy only, SciPy by way of `intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.statistics.intervals import CONFIDENCE, LogMean, t_quantile

MAX_LAUNCHES = 1000
"""The largest number of launches that is advised."""


class Variances(NamedTuple):
    """The spread of round values, in two parts."""

    within: float
    """Variance of rounds around their launch's mean; more rounds reduce it."""
    between: float
    """Variance of launches around their mean, corrected for the variance within; only more launches
    reduce it. Zero or less if the rounds explain all of the spread."""


def variances(values_by_launch: Sequence[Sequence[float]]) -> Variances | None:
    """Both variances; None with fewer than two launches of two rounds each."""
    launches = [np.asarray(v, dtype=np.float64) for v in values_by_launch if len(v) >= 2]
    if len(launches) < 2:
        return None
    within = float(np.mean([np.var(launch, ddof=1) for launch in launches]))
    means = float(np.var([launch.mean() for launch in launches], ddof=1))
    mean_reciprocal = float(np.mean([1 / launch.size for launch in launches]))
    return Variances(within=within, between=means - within * mean_reciprocal)


def best_rounds(parts: Variances, *, round_s: float, launch_s: float, max_rounds: int) -> int:
    """Rounds per launch that give the narrowest interval in a given time: r1* of the source.

    `launch_s` are the seconds of a launch before its first round, `round_s` those of a round.
    """
    if parts.between <= 0:
        return max_rounds
    rounds = math.sqrt(launch_s / round_s * parts.within / parts.between)
    return max(1, min(math.ceil(rounds), max_rounds))


def launches_for(deviation: float, *, half_width: float) -> int | None:
    """The fewest launches whose t interval has at most this half-width; None beyond 1000.

    `deviation` is the standard deviation of launch-level logarithms.
    """
    for num_launches in range(2, MAX_LAUNCHES + 1):
        multiplier = t_quantile((1 + CONFIDENCE) / 2, num_launches - 1)
        if multiplier * deviation / math.sqrt(num_launches) <= half_width:
            return num_launches
    return None


def more_launches_to_halve(mean: LogMean) -> int | None:
    """The number of further launches that would halve the interval, if the spread stays the same.

    None if it is not known.
    """
    if mean.standard_error is None or mean.half_width is None:
        return None
    deviation = mean.standard_error * math.sqrt(mean.num_launches)
    needed = launches_for(deviation, half_width=mean.half_width / 2)
    return None if needed is None else needed - mean.num_launches
