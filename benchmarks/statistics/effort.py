"""How further measuring would narrow an interval: by more launches, or by more rounds.

Source: Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time" (2013), sections 6 and 7,
with the corrected estimate of the variance between launches (the first printing's is biased).
Pure functions on numbers: NumPy only, SciPy by way of `intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.statistics.intervals import LogMean
from benchmarks.statistics.ratios import Ratio, ratio_of, verdict

MAX_LAUNCHES = 1000
"""The largest number of further launches that is advised."""
NUM_CHOICES = 24

Round = TypeVar("Round")


class LaunchValue(NamedTuple):
    """A launch-level log-ratio, with what its rounds add to its variance."""

    log_ratio: float
    within: float | None
    """The variance that its rounds add, scaled to one round: see `within_variance`."""
    num_rounds: int


class Variances(NamedTuple):
    """The spread of round values, in two parts."""

    within: float
    """Variance that a launch of one round would have from its rounds; more rounds reduce it."""
    between: float
    """Variance of launches around their mean, corrected for the variance within; only more launches
    reduce it. Zero or less if the rounds explain all of the spread."""


def within_variance(
    base_rounds: Sequence[Round],
    case_rounds: Sequence[Round],
    *,
    log_ratio: Callable[[Sequence[Round], Sequence[Round]], float],
) -> float | None:
    """The variance that rounds add to a launch's log-ratio, scaled to one round.

    From a jackknife that leaves out half of the rounds of both, in 24 random choices that are the
    same each time: leaving out one round would not do for a quantile (Shao and Wu 1989). Its median
    is about right; on average it is too high, up to twice with noise alone, and by far more with
    few rounds and two speeds, since half of the rounds may miss the machine's fast state.

    `log_ratio` is one of `benchmarks.statistics.launch_ratio` and sets what a round is. None with
    fewer than two rounds. Raises ValueError as `log_ratio` does.
    """
    num_rounds = len(base_rounds)
    if num_rounds < 2:
        return None
    num_left_out = num_rounds // 2
    generator = np.random.default_rng(0)
    values = []
    for _ in range(NUM_CHOICES):
        kept = generator.permutation(num_rounds)[num_left_out:]
        values.append(log_ratio([base_rounds[i] for i in kept], [case_rounds[i] for i in kept]))
    num_kept = num_rounds - num_left_out
    return float(np.var(values, ddof=1)) * num_kept / num_left_out * num_rounds


def variances(launches: Sequence[LaunchValue]) -> Variances | None:
    """Both variances; None with fewer than two launches whose variance within is known."""
    known = [(one, one.within) for one in launches if one.within is not None]
    if len(known) < 2:
        return None
    total = float(np.var([one.log_ratio for one, _ in known], ddof=1))
    explained = float(np.mean([within / one.num_rounds for one, within in known]))
    mean_within = float(np.mean([within for _, within in known]))
    return Variances(within=mean_within, between=total - explained)


def error_of_rounds(turns: Sequence[Sequence[float]]) -> float | None:
    """The standard error that the number of rounds leaves in the log-ratio of two launches.

    `turns` holds a sequence for each round: the step time of each launch's turn, in one unit. What
    a round and a launch have in common is taken out of their logarithms; the rest is noise. None
    with fewer than two rounds or two launches. Raises ValueError if rounds have unlike numbers of
    launches, or a time is not a finite number above 0.
    """
    if len({len(one) for one in turns}) > 1 or not all(
        math.isfinite(time) and time > 0 for one in turns for time in one
    ):
        raise ValueError(
            f"received turns={turns}, expected as many finite numbers above 0 in each round"
        )
    num_rounds, num_launches = len(turns), len(turns[0]) if turns else 0
    if num_rounds < 2 or num_launches < 2:
        return None
    logs = np.log(np.array(turns, dtype=np.float64))
    rest = logs - logs.mean(axis=0) - logs.mean(axis=1, keepdims=True) + logs.mean()
    variance = float((rest**2).sum()) / ((num_rounds - 1) * (num_launches - 1))
    return math.sqrt(2 * variance / num_rounds)


def best_rounds(parts: Variances, *, round_s: float, launch_s: float, max_rounds: int) -> int:
    """Rounds per launch that give the narrowest interval in a given time: r1* of the source.

    `launch_s` are the seconds of a launch before its first round, `round_s` those of a round.
    """
    if parts.between <= 0:
        return max_rounds
    rounds = math.sqrt(launch_s / round_s * parts.within / parts.between)
    return max(1, min(math.ceil(rounds), max_rounds))


def more_launches_to_halve(mean: LogMean) -> int | None:
    """The number of further launches that would halve the interval, if the spread stays the same.

    None if it is not known, or beyond 1000.
    """
    half = mean.half_width
    for more, later in _continued(mean):
        if half is not None and later.half_width is not None and later.half_width <= half / 2:
            return more
    return None


def cohorts_to_decide(ratio: Ratio, *, target_half_width: float, level: float) -> int | None:
    """The number of further cohorts until a verdict is expected, if estimate and spread stay.

    By then the comparison is faster, slower or the same at this level (divide it by the number of
    undecided comparisons with the base, which `holm` counts), and the half-width of its 95 %
    interval is at most the target: 0 if both hold already. None if the spread is not known, or
    beyond 1000.
    """
    for more, later in _continued(ratio.log_mean):
        is_narrow = later.half_width is not None and later.half_width <= target_half_width
        if is_narrow and verdict(ratio_of(later), level=level) != "cant_tell":
            return more
    return None


def _continued(mean: LogMean) -> Iterator[tuple[int, LogMean]]:
    """The mean as it is, and after each number of further launches with the same spread."""
    if mean.standard_error is None:
        return
    for more in range(MAX_LAUNCHES + 1):
        num_launches = mean.num_launches + more
        yield (
            more,
            replace(
                mean,
                standard_error=mean.standard_error * math.sqrt(mean.num_launches / num_launches),
                num_launches=num_launches,
                degrees_of_freedom=mean.degrees_of_freedom + more,
            ),
        )
