"""The rule that ends a warm-up: is the step time steady now? NumPy and standard library only.

What became of a launch afterwards is classified by `benchmarks.statistics.steady`, which the
worker does not import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

RELATIVE_CHANGE = 0.01
"""A change below 1 % counts as steady whatever the noise."""
NUM_STANDARD_ERRORS = 2.0
"""A change that noise explains counts as steady; on a quiet machine this adds next to nothing."""
MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)
"""Standard error of the median over that of the mean, for normal values and many of them."""


def is_steady(step_seconds: Sequence[float], *, window: int) -> bool:
    """Whether the last 2 * window mini-blocks show neither a step nor a drift beyond their noise.

    Their halves' medians must agree within max(1 %, 2 standard errors), and the Theil-Sen slope
    over the whole of them must amount to at most 1 % + 2 standard errors. The noise is that about
    the slope's line, so that a drift does not excuse itself. False while there are fewer than
    2 * window mini-blocks; ValueError where a time is not a finite number above 0.
    """
    if window < 1:
        raise ValueError(f"window={window}: expected 1 or more mini-blocks")
    times = np.asarray(step_seconds[-2 * window :], dtype=np.float64)
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise ValueError(f"step_seconds={times.tolist()}: expected finite seconds above 0")
    num = len(times)
    if num < 2 * window:
        return False
    logs = np.log(times)
    slope = _theil_sen(logs)
    spread = _spread(logs - slope * np.arange(num))
    step = abs(math.expm1(float(np.median(logs[window:]) - np.median(logs[:window]))))
    step_error = MEDIAN_OVER_MEAN * spread * math.sqrt(2 / window)
    # The standard error of a least-squares slope over equidistant points; Theil-Sen's is 2 % more.
    drift_error = spread * math.sqrt(12 / (num * (num**2 - 1))) * num
    return step <= max(RELATIVE_CHANGE, NUM_STANDARD_ERRORS * step_error) and (
        abs(slope) * num <= RELATIVE_CHANGE + NUM_STANDARD_ERRORS * drift_error
    )


def _theil_sen(values: np.ndarray) -> float:
    """The median slope over all pairs, which a few spikes do not move (Sen 1968)."""
    first, second = np.triu_indices(len(values), k=1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def _spread(residuals: np.ndarray) -> float:
    """A standard deviation that spikes do not widen: 1.4826 times the median deviation."""
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
