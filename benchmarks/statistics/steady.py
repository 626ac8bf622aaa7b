"""Classifies how a launch's step time developed: flat, or with change-points of some kind.

The rule that ends a warm-up is in `benchmarks.worker.warmup`; this one sees the whole trace. The
labels are those of Barrett et al., "Virtual Machine Warmup Blows Hot and Cold" (2017).
Pure functions on numbers: NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Trend = Literal["flat", "warmup", "slowdown", "no_steady_state"]

MIN_SEGMENT = 5
PENALTY_PER_LOG = 15.0
"""Penalty of a change-point over ln n, as in warmup_stats. At 3 ln n most autocorrelated traces
would show change-points; at 15 ln n drops of 10 % are still found."""
RELATIVE_CHANGE = 0.01
"""A change of level below 1 % is ignored."""
RELATIVE_RESOLUTION = 1e-6
WINSOR_WIDTH = 7
WINSOR_DEVIATIONS = 3.0


def classify(step_seconds: Sequence[float]) -> Trend:
    """The trend of one launch's step time, in the order of its blocks.

    flat             no change-point, or only ones of at most 1 %
    warmup           the last segment is the fastest
    slowdown         the last segment is slower than an earlier one by more than 1 %
    no_steady_state  a change-point lies in the last third
    Raises ValueError if a time is not a finite number above 0.
    """
    times = np.asarray(step_seconds, dtype=np.float64)
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise ValueError(f"received step_seconds={times.tolist()}, expected finite seconds above 0")
    if times.size < 2 * MIN_SEGMENT:
        return "flat"
    logs = np.log(times)
    points = change_points(_standardise(logs), penalty=PENALTY_PER_LOG * math.log(times.size))
    levels = [float(np.median(part)) for part in np.split(logs, points)]
    changes = np.abs(np.diff(levels)) > RELATIVE_CHANGE
    if not changes.any():
        return "flat"
    if max(np.asarray(points)[changes]) > times.size * 2 / 3:
        return "no_steady_state"
    return "slowdown" if levels[-1] - min(levels) > RELATIVE_CHANGE else "warmup"


def _standardise(logs: np.ndarray) -> np.ndarray:
    """The logs in units of their noise; spikes are clipped at 3 units from the running median.

    The noise is estimated from first differences, which a change of level hardly affects.
    """
    deviation = 1.4826 * float(np.median(np.abs(_centred(np.diff(logs))))) / math.sqrt(2)
    scaled = _centred(logs) / max(deviation, RELATIVE_RESOLUTION)
    padded = np.pad(scaled, WINSOR_WIDTH // 2, mode="reflect")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, WINSOR_WIDTH), axis=1)
    return np.clip(scaled, middle - WINSOR_DEVIATIONS, middle + WINSOR_DEVIATIONS)


def _centred(values: np.ndarray) -> np.ndarray:
    centred: np.ndarray = values - np.median(values)
    return centred


def change_points(values: np.ndarray, *, penalty: float) -> list[int]:
    """The positions at which the mean changes, with the least squared error plus penalties.

    The partition is that of PELT (Killick, Fearnhead and Eckley 2012), found by the unpruned
    recursion of Jackson et al. (2005): a trace has hundreds of blocks, not millions. No segment is
    shorter than MIN_SEGMENT.
    """
    size = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    squares = np.concatenate([[0.0], np.cumsum(np.square(values))])
    least = np.full(size + 1, np.inf)
    least[0] = -penalty
    previous = np.zeros(size + 1, dtype=np.int64)
    for end in range(MIN_SEGMENT, size + 1):
        starts = np.arange(end - MIN_SEGMENT + 1)
        errors = squares[end] - squares[starts] - (sums[end] - sums[starts]) ** 2 / (end - starts)
        totals = least[starts] + errors + penalty
        previous[end] = int(np.argmin(totals))
        least[end] = totals[previous[end]]
    points = []
    end = int(previous[size])
    while end > 0:
        points.append(end)
        end = int(previous[end])
    return points[::-1]
