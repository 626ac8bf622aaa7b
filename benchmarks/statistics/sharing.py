"""The variance that comparisons share, so that few launches of each give a narrow interval.

Three launches tell little about their own spread: Student's t multiplies it by 4.3. Comparisons of
one machine have spreads that are alike, though not equal. So each one's variance is moved towards
what all of them have in common, and gains degrees of freedom: the moderated t.
Source: Smyth (2004), "Linear models and empirical Bayes methods for assessing differential
expression in microarray experiments", sections 3 and 6.2 (`fitFDist` of limma).
Pure functions on numbers: NumPy, and SciPy inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MIN_COMPARISONS = 3
"""Fewer comparisons do not tell how alike their variances are."""
MAX_DEGREES_OF_FREEDOM = 20.0
"""A prior is worth no more than this, however much history it has."""
CAUTION = 0.75
"""Standard errors by which the spread of log variances is taken to be larger than it looks. Without
it, a comparison that varies three times as much as the others has an interval that is too narrow in
one of seven runs. It also covers that comparisons beside one base share the base's launches."""
MAX_NEWTON_STEPS = 50


class Spread(NamedTuple):
    """An estimate of the variance of one launch's logarithm, with what it is worth."""

    variance: float
    degrees_of_freedom: float


class Prior(NamedTuple):
    """The variance that comparisons have in common, and how many degrees of freedom it is worth."""

    variance: float
    degrees_of_freedom: float


def fit_prior(spreads: Sequence[Spread]) -> Prior | None:
    """The prior that the variances of these comparisons follow; None with fewer than three.

    They are those of one run, each before it is moderated. None as well if they are so unlike that
    what they have in common is worth less than half of what each one's own launches are: a group
    whose launches vary ten times as much would widen all others. The prior's variance is their
    geometric mean, without the bias that it has if degrees of freedom are few. (The source's is
    smaller if they are unlike; this covers the larger ones.) Its degrees of freedom say how alike
    the variances are beyond what their own degrees of freedom explain, with `CAUTION` if there are
    few comparisons. Raises ValueError if a variance or its degrees of freedom is not a finite
    number above 0.
    """
    if not all(math.isfinite(number) and number > 0 for one in spreads for number in one):
        raise ValueError(f"received spreads={list(spreads)}, expected finite numbers above 0")
    if len(spreads) < MIN_COMPARISONS:
        return None
    from scipy.special import digamma

    variances = np.array([one.variance for one in spreads])
    halves = np.array([one.degrees_of_freedom for one in spreads]) / 2
    logs = np.log(variances) - digamma(halves) + np.log(halves)
    worth = 2 * _inverse_trigamma(_largest_excess(logs, halves))
    if worth < float(halves.min()):
        return None
    return Prior(math.exp(float(logs.mean())), min(worth, MAX_DEGREES_OF_FREEDOM))


def _largest_excess(logs: np.ndarray, halves: np.ndarray) -> float:
    """How much the log variances may vary beyond what their degrees of freedom explain.

    `halves` are half of these. The explained part is trigamma(halves); the standard error is that
    of a sample's variance, from the fourth cumulant of the log of a chi-square variable.
    """
    from scipy.special import polygamma

    num = logs.size
    explained = float(np.mean(polygamma(1, halves)))
    fourth = float(np.mean(polygamma(3, halves)))
    error = math.sqrt((fourth + 2 * explained**2 * num / (num - 1)) / num)
    return max(float(np.var(logs, ddof=1)) - explained, 0.0) + CAUTION * error


def _inverse_trigamma(value: float) -> float:
    """The argument at which trigamma has this value: Newton's method, as in Smyth's appendix."""
    from scipy.special import polygamma

    found = 0.5 + 1 / value
    for _ in range(MAX_NEWTON_STEPS):
        trigamma = float(polygamma(1, found))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, found))
        found += step
        if abs(step) < 1e-8 * found:
            break
    return found


def moderated(variance: float, degrees_of_freedom: float, prior: Prior) -> Spread:
    """The variance moved towards the prior's, each weighted with its degrees of freedom."""
    total = prior.degrees_of_freedom + degrees_of_freedom
    weighted = prior.degrees_of_freedom * prior.variance + degrees_of_freedom * variance
    return Spread(weighted / total, total)
