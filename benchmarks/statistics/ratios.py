"""Paired ratios over cohorts, and their verdicts.

A ratio is the base's time over the case's time on the same work: above 1 is faster than the base.
In one round both ran under the same conditions, so the machine's drift cancels in the difference of
their logarithms. The differences of a cohort's rounds are averaged robustly; the cohorts' averages
get a t interval. Pure functions on numbers: NumPy only, SciPy by way of `intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.statistics.intervals import (
    CONFIDENCE,
    RELATIVE_RESOLUTION,
    LogMean,
    log_mean,
    t_upper_tail,
)

RatioVerdict = Literal["faster", "slower", "same", "cant_tell", "unproven", "not_comparable"]
"""The conclusion from a ratio. `verdict` returns one of the first four, by the numbers alone. The
other two replace it if the work of one side is unproven, or if the two sides computed different
mathematics."""

MARGIN = 0.02
"""Ratios between 1 / 1.02 and 1.02 are a tie: too small to base a choice on."""
TRIM = 0.2
"""Share of rounds dropped at each end before averaging, so that spikes do not count."""
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


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the lowest and the highest fifth, each rounded down."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    cut = int(TRIM * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean())


def paired_ratio(
    log_ratios_by_cohort: Sequence[Sequence[float]], *, floor: float = RELATIVE_RESOLUTION
) -> Ratio:
    """The ratio over cohorts, from ln(base's step time / case's step time) of each shared round.

    A cohort of serial launches has a single value instead. Cohorts without a round are left out;
    their numbers of rounds may differ. One cohort gives a ratio without an interval. Raises
    ValueError if no round is left or a value is not finite.
    """
    cohorts = [cohort for cohort in log_ratios_by_cohort if len(cohort) > 0]
    if not all(math.isfinite(value) for cohort in cohorts for value in cohort):
        raise ValueError("received a log-ratio that is not finite, expected finite numbers")
    mean = log_mean([trimmed_mean(cohort) for cohort in cohorts], floor=floor)
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
    freedom = mean.num_launches - 1
    return PValues(
        faster=t_upper_tail((mean.mean - bound) / mean.standard_error, freedom),
        slower=t_upper_tail((-mean.mean - bound) / mean.standard_error, freedom),
    )


def verdict(
    ratio: Ratio, *, adjusted_p: float | None = None, margin: float = MARGIN
) -> RatioVerdict:
    """The verdict: faster or slower by more than the margin, same within it, or cant_tell.

    `adjusted_p` is the two-sided p-value after `holm` over the comparisons with one base; by
    default this is the only comparison. `same` requires the whole interval within the margin.
    """
    if ratio.num_launches < MIN_LAUNCHES or ratio.low is None or ratio.high is None:
        return "cant_tell"
    p_value = superiority_p_values(ratio, margin=margin).two_sided
    if (p_value if adjusted_p is None else adjusted_p) <= 1 - CONFIDENCE:
        return "faster" if ratio.ratio > 1 else "slower"
    if ratio.low >= 1 / (1 + margin) and ratio.high <= 1 + margin:
        return "same"
    return "cant_tell"
