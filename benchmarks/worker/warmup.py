"""The warm-up: mini-blocks until the step time is steady. NumPy, the contract and worker.

How a launch's step time developed afterwards is classified by `benchmarks.statistics.steady`, which
the worker does not import.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

import numpy as np

from benchmarks.contract.device import DeviceRules
from benchmarks.contract.framework import Framework
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.worker.timing import BlockTime

MINI_BLOCK_S = 0.02
MAX_STRETCH = 5
"""Factor on the warm-up's time limit while there are too few mini-blocks to judge."""
NUM_QUIET = 3
"""Mini-blocks in a row without a compilation before timing may start."""
RELATIVE_CHANGE = 0.01
"""A change below 1 % counts as steady, whatever the noise is."""
NUM_STANDARD_ERRORS = 2.0
"""A change within 2 standard errors counts as steady; on a quiet machine this adds little."""
MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)
"""Standard error of the median over that of the mean, for many normally distributed values."""


@dataclass(frozen=True)
class WarmUp:
    """The result of a warm-up."""

    mini_blocks_ns: tuple[tuple[int, int], ...]
    """(num_steps, duration_ns) of each mini-block."""
    step_s: float
    """Median seconds per step of the last window."""
    steady: bool | None
    """Whether it ended in a steady state; None if there was no warm-up."""


def warm_up(
    time_steps: Callable[[int], BlockTime],
    framework: Framework,
    *,
    protocol: MeasuringProtocol,
    rules: DeviceRules,
    step_s: float,
) -> WarmUp:
    """Step until the step time is steady, or until the protocol's limit.

    `time_steps` times the given number of steps. If steps are so slow that too few fit within the
    limit, the limit is stretched. `step_s` is a first estimate of the seconds per step, which sizes
    the mini-blocks.
    """
    num_steps = max(1, math.ceil(MINI_BLOCK_S / step_s))
    blocks: list[tuple[int, int]] = []
    quiet, steady = 0, False
    begin = time.perf_counter()
    limit_s = protocol.max_warmup_s
    while not steady and time.perf_counter() - begin < limit_s:
        compiled = framework.num_compilations()
        block = time_steps(num_steps)
        blocks.append((num_steps, block.duration_ns))
        quiet = quiet + 1 if framework.num_compilations() == compiled else 0
        enough = quiet >= NUM_QUIET and _is_long_enough(blocks, begin, protocol, rules)
        steady = enough and is_steady(_step_seconds(blocks), window=protocol.warmup_window)
        can_judge = len(blocks) >= 2 * protocol.warmup_window
        limit_s = protocol.max_warmup_s * (1 if can_judge else MAX_STRETCH)
    last = _step_seconds(blocks)[-protocol.warmup_window :]
    return WarmUp(tuple(blocks), statistics.median(last), steady)


def is_steady(step_seconds: Sequence[float], *, window: int) -> bool:
    """Whether the last 2 * window mini-blocks show neither a step nor a drift beyond their noise.

    Their halves' medians must agree within max(1 %, 2 standard errors), and the Theil-Sen slope
    over all of them must amount to at most 1 % + 2 standard errors. Noise is measured around the
    fitted line, so that a drift does not count as noise. False while there are fewer than
    2 * window mini-blocks; ValueError if a time is not a finite number above 0.
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


def _step_seconds(blocks: list[tuple[int, int]]) -> list[float]:
    return [duration_ns / num_steps / 1e9 for num_steps, duration_ns in blocks]


def _is_long_enough(
    blocks: list[tuple[int, int]], begin: float, protocol: MeasuringProtocol, rules: DeviceRules
) -> bool:
    """Whether the minimum of steps and seconds has passed; 0 seconds switches both off."""
    least_s = protocol.min_warmup_s and max(protocol.min_warmup_s, rules.min_warmup_s)
    num_steps = sum(n for n, _ in blocks)
    return num_steps >= protocol.min_warmup_steps and time.perf_counter() - begin >= least_s


def _theil_sen(values: np.ndarray) -> float:
    """The median slope over all pairs, which is robust to a few spikes (Sen 1968)."""
    first, second = np.triu_indices(len(values), k=1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def _spread(residuals: np.ndarray) -> float:
    """A robust standard deviation: 1.4826 times the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
