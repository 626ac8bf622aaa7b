"""Paired ratios over cohorts, and their verdicts.

A ratio is the base's time over the case's time on the same work: above 1 is faster than the base.
Each cohort gives one value, the launch-level log-ratio of `benchmarks.statistics.launch_ratio`; the
cohorts' mean gets a t interval. Pure functions on numbers: SciPy by way of `intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from benchmarks.statistics.intervals import (
    CONFIDENCE,
    RELATIVE_RESOLUTION,
    LogMean,
    log_mean,
    t_upper_tail,
)
from benchmarks.statistics.sharing import Prior, moderated

RatioVerdict = Literal["faster", "slower", "same", "cant_tell", "unproven", "not_comparable"]
"""The conclusion from a ratio. `verdict` returns one of the first four, by the numbers alone. The
other two replace it if the work of one side is unproven, or if the two sides computed different
mathematics."""

MARGIN = 0.02
"""Ratios between 1 / 1.02 and 1.02 are a tie: too small to base a choice on."""
MIN_LAUNCHES = 3
"""Least number of cohorts for a verdict."""


@dataclass(frozen=True)
class Ratio:
    """The base's time over the case's, with its 95 % confidence interval over cohorts."""

    ratio: float
    low: float | None
    high: float | None
    num_launches: int
    """Number of cohorts; each holds one launch of the case and one of the base (two if serial)."""
    log_mean: LogMean

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width in logarithms: about the relative half-width."""
        return self.log_mean.half_width

    @property
    def degrees_of_freedom(self) -> float:
        """What the interval's standard error is worth, other comparisons' share in it included."""
        return self.log_mean.degrees_of_freedom


class PValues(NamedTuple):
    """One-sided p-values against the margin."""

    faster: float
    """p-value of the hypothesis that the case is not faster by more than the margin."""
    slower: float
    """p-value of the hypothesis that the case is not slower by more than the margin."""

    @property
    def two_sided(self) -> float:
        """The p-value of the hypothesis that the case is within the margin of the base."""
        return min(1.0, 2 * min(self.faster, self.slower))


def paired_ratio(
    log_ratios: Sequence[float], *, prior: Prior | None = None, floor: float = RELATIVE_RESOLUTION
) -> Ratio:
    """The ratio over cohorts, from ln(base's step time / case's step time) of each cohort.

    With a `prior` the variance is moderated by what other comparisons have in common. One cohort
    gives a ratio without an interval, with or without a prior. `floor` as in `log_mean`, which
    also names the errors.
    """
    mean = log_mean(log_ratios, floor=floor)
    if prior is not None and mean.variance is not None:
        spread = moderated(mean.variance, mean.degrees_of_freedom, prior)
        mean = replace(
            mean,
            standard_error=math.sqrt(spread.variance / mean.num_launches),
            degrees_of_freedom=spread.degrees_of_freedom,
        )
    return ratio_of(mean)


def ratio_of(mean: LogMean) -> Ratio:
    """The ratio whose logarithm has this mean."""
    half = mean.half_width
    return Ratio(
        ratio=math.exp(mean.mean),
        low=None if half is None else math.exp(mean.mean - half),
        high=None if half is None else math.exp(mean.mean + half),
        num_launches=mean.num_launches,
        log_mean=mean,
    )


def superiority_p_values(ratio: Ratio, *, margin: float = MARGIN) -> PValues:
    """The p-values of a difference beyond the margin, in each direction; 1 without an interval."""
    mean = ratio.log_mean
    if mean.standard_error is None:
        return PValues(1.0, 1.0)
    bound = math.log1p(margin)
    freedom = mean.degrees_of_freedom
    return PValues(
        faster=t_upper_tail((mean.mean - bound) / mean.standard_error, freedom),
        slower=t_upper_tail((-mean.mean - bound) / mean.standard_error, freedom),
    )


def verdict(
    ratio: Ratio,
    *,
    adjusted_p: float | None = None,
    level: float = 1 - CONFIDENCE,
    margin: float = MARGIN,
) -> RatioVerdict:
    """The verdict: faster or slower by more than the margin, same within it, or cant_tell.

    `adjusted_p` is the two-sided p-value after `holm` over the comparisons with one base; by
    default this is the only comparison. `level` is the largest p-value that decides: that of
    `benchmarks.statistics.looks` if undecided comparisons are measured further. `same` requires the
    whole interval of confidence 1 - level within the margin.
    """
    half = ratio.log_mean.half_width_at(1 - level)
    if ratio.num_launches < MIN_LAUNCHES or half is None:
        return "cant_tell"
    p_value = superiority_p_values(ratio, margin=margin).two_sided
    if (p_value if adjusted_p is None else adjusted_p) <= level:
        return "faster" if ratio.ratio > 1 else "slower"
    return "same" if abs(ratio.log_mean.mean) + half <= math.log1p(margin) else "cant_tell"
