"""Percentiles of latency, and the number of samples that each one needs.

A tail percentile from too few samples is usually too low. So it is given as an upper bound that
holds with 99 % confidence, or not at all: the early-stopping estimate of MLPerf's LoadGen
(mlcommons/inference, loadgen/early_stopping.cc). Pure functions on numbers: NumPy, and SciPy inside
functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.99
NUM_EXCEEDANCES = 1
"""Least number of samples at or above the bound; with none, the bound would be the largest one."""
HIGHEST_OF_LAUNCHES = 90
"""Highest percentile that is computed for each launch; higher ones pool all launches' samples."""
MIN_CORRELATION = 0.1
"""Lag-1 correlation of slow requests above which samples count as fewer independent ones, if the
number of adjacent slow requests is also significant at 1 %."""
MIN_SAMPLES_OF_MEDIAN = 8
"""With 8 samples, the median lies between the smallest and the largest with 99 % confidence."""


@dataclass(frozen=True)
class TailBound:
    """An upper bound of a percentile of pooled samples, or the reason for having none."""

    bound: float | None
    """The bound in the samples' unit; None if there are too few samples."""
    num_samples: int
    num_needed: int
    """Samples that the percentile needs at their correlation."""

    @property
    def reason(self) -> str | None:
        """Why there is no bound, or None."""
        if self.bound is not None:
            return None
        return f"{self.num_samples} of the {self.num_needed} samples that it needs"


def required_samples(percentile: float, *, num_exceedances: int = NUM_EXCEEDANCES) -> int:
    """Independent samples that the bound of a percentile needs: 64 for p90, 662 for p99.

    The smallest n for which P[Bin(n, 1 - q) <= num_exceedances] <= 1 %. The median needs 8.
    """
    share = _tail_share(percentile)
    if percentile == 50:
        return MIN_SAMPLES_OF_MEDIAN
    enough = num_exceedances + 1
    while _chance(num_exceedances, enough, share) > 1 - CONFIDENCE:
        enough *= 2
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        if _chance(num_exceedances, middle, share) > 1 - CONFIDENCE:
            few = middle
        else:
            enough = middle
    return enough


def tail_bound(launches: Sequence[Sequence[float]], percentile: float) -> TailBound:
    """The upper bound of a percentile from the samples of all launches, each in order of time.

    If slow requests come in runs, n samples count as n (1 - r) / (1 + r) independent ones; r is the
    lag-1 correlation of reaching the percentile. Raises ValueError if a sample is not finite.
    """
    samples = np.sort(np.concatenate([np.asarray(one, np.float64) for one in (*launches, ())]))
    if not np.isfinite(samples).all():
        raise ValueError("received samples that are not finite, expected finite numbers")
    worth = _worth(launches, samples, percentile)
    num_needed = math.ceil(required_samples(percentile) / worth)
    if samples.size < num_needed:
        return TailBound(None, samples.size, num_needed)
    exceedances = _most_exceedances(math.floor(samples.size * worth), _tail_share(percentile))
    # Exceedances among all samples that correspond to those among independent ones.
    position = max(1, math.floor(exceedances / worth))
    return TailBound(float(samples[-position]), samples.size, num_needed)


def percentile_of(samples: Sequence[float], percentile: float) -> float | None:
    """The percentile of one launch's samples; None if there are too few.

    Median-unbiased (Hyndman and Fan 1996, definition 8).
    """
    if len(samples) < required_samples(percentile):
        return None
    return float(np.quantile(samples, percentile / 100, method="median_unbiased"))


def _tail_share(percentile: float) -> float:
    if not 50 <= percentile < 100:
        raise ValueError(f"received percentile={percentile}, expected 50 or more and less than 100")
    return 1 - percentile / 100


def _chance(num_exceedances: int, num_samples: int, share: float) -> float:
    """The probability of at most this many samples above it: P[Bin(n, share) <= exceedances]."""
    from scipy.special import bdtr

    return float(bdtr(float(num_exceedances), num_samples, share))


def _most_exceedances(num_samples: int, share: float) -> int:
    """The largest number of exceedances that still bounds the percentile from above."""
    most = NUM_EXCEEDANCES
    while _chance(most + 1, num_samples, share) <= 1 - CONFIDENCE:
        most += 1
    return most


def _worth(launches: Sequence[Sequence[float]], pooled: np.ndarray, percentile: float) -> float:
    """The number of independent samples that one of these counts as, at most 1."""
    from scipy.special import pdtrc

    if pooled.size == 0:
        return 1.0
    limit = np.quantile(pooled, percentile / 100)
    slow = [np.asarray(one, np.float64) >= limit for one in launches]
    share = float(np.concatenate(slow).mean())
    num_pairs = sum(max(0, one.size - 1) for one in slow)
    num_slow_pairs = sum(int((one[:-1] & one[1:]).sum()) for one in slow)
    if share == 1 or not num_slow_pairs:
        return 1.0
    by_chance = float(pdtrc(num_slow_pairs - 1, num_pairs * share**2))
    correlation = min((num_slow_pairs / num_pairs - share**2) / (share - share**2), 0.95)
    if by_chance > 1 - CONFIDENCE or correlation <= MIN_CORRELATION:
        return 1.0
    return float((1 - correlation) / (1 + correlation))
