"""What more measuring would buy: how many more launches, and whether more rounds would help.

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
"""Beyond it no advice is given."""


class Variances(NamedTuple):
    """Where the spread of round values comes from."""

    within: float
    """Of rounds about their launch: more rounds average it away."""
    between: float
    """Of launches about their mean, without what the rounds add; only launches average it away.
    Zero or less where rounds explain all of it."""


def variances(values_by_launch: Sequence[Sequence[float]]) -> Variances | None:
    """The two components; None with fewer than two launches of two rounds each."""
    launches = [np.asarray(v, dtype=np.float64) for v in values_by_launch if len(v) >= 2]
    if len(launches) < 2:
        return None
    within = float(np.mean([np.var(launch, ddof=1) for launch in launches]))
    means = float(np.var([launch.mean() for launch in launches], ddof=1))
    mean_reciprocal = float(np.mean([1 / launch.size for launch in launches]))
    return Variances(within=within, between=means - within * mean_reciprocal)


def best_rounds(parts: Variances, *, round_s: float, launch_s: float, max_rounds: int) -> int:
    """Rounds per launch that give the narrowest interval for the time: r1* of the source.

    `launch_s` is what a launch costs before its first round, `round_s` what a round costs.
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
    """How many more launches would halve the interval, if the spread stays; None if unknown."""
    if mean.standard_error is None or mean.half_width is None:
        return None
    deviation = mean.standard_error * math.sqrt(mean.num_launches)
    needed = launches_for(deviation, half_width=mean.half_width / 2)
    return None if needed is None else needed - mean.num_launches
