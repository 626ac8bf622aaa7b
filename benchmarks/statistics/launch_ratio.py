"""How much faster one launch was than another that was alive with it, from their common rounds.

A shared machine changes its speed between turns, and foreign load only ever slows a step down. So
there are two estimands, each of them ln(base's step time / case's step time), above 0 if the case
is faster:

    undisturbed   from the low quantile of the step times: the speed of the two programs when the
                  machine does not disturb them. A pause that a framework makes by itself, in fewer
                  than nine of ten steps, is not in it.
    experienced   from the mean step time of each turn: what disturbs many rounds is in it, and so
                  it is less certain.

Pure functions on numbers: NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Floats = Sequence[float] | np.ndarray

UNDISTURBED_QUANTILE = 0.1
"""The share of a launch's steps that are at most as long as its undisturbed step time."""
TURN_QUANTILE = 0.25
"""The same of one turn's steps: higher, since a turn may have few steps."""
AGREEMENT = 0.1
"""A round agrees with a log-ratio if its own is at most this far from it: more than the noise of a
turn, less than the 0.3 between the two speeds of a shared machine."""
MIN_AGREEING = 1 / 3
"""The share of rounds whose agreement confirms a log-ratio."""


def hodges_lehmann(values: Sequence[float]) -> float:
    """The median of the means of all pairs of values, each value with itself included.

    As sharp as the mean if errors are normal (96 % of its efficiency) and hardly moved by spikes.
    Memory grows with the square of the number of values. Raises ValueError if there is no value or
    one is not finite. Source: Hodges and Lehmann (1963).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"received {array.tolist()}, expected one finite number or more")
    first, second = np.triu_indices(array.size)
    return float(np.median(array[first] + array[second])) / 2


def undisturbed(samples: Floats) -> float:
    """The step time of a launch when the machine does not disturb it, in the samples' unit.

    The 10 % quantile, median-unbiased (Hyndman and Fan 1996, definition 8); the least sample if
    there are fewer than seven. Raises ValueError if there is no sample, or one is not a finite
    number above 0.
    """
    return _low_quantile(samples, UNDISTURBED_QUANTILE)


def undisturbed_in_turn(samples: Floats) -> float:
    """The step time of one turn when the machine does not disturb it: its 25 % quantile.

    Raises ValueError as `undisturbed` does.
    """
    return _low_quantile(samples, TURN_QUANTILE)


def undisturbed_log_ratio(
    base_rounds: Sequence[Sequence[float]], case_rounds: Sequence[Sequence[float]]
) -> float:
    """ln(base's step time / case's step time) when the machine does not disturb them.

    The arguments are the step times of the two launches' turns, one sequence for each common round,
    in order. The log-ratio is that of the launches' undisturbed step times, if a third of the
    rounds agree with it, or as many as with the median of the rounds' own log-ratios. Otherwise the
    machine's fast state came in the turns of only one of them, and the median is returned. Raises
    ValueError if there is no round, their numbers differ, a turn has no sample, or one is not a
    finite number above 0.
    """
    _require_pairs(len(base_rounds), len(case_rounds))
    of_rounds = np.array(
        [
            np.log(undisturbed_in_turn(base) / undisturbed_in_turn(case))
            for base, case in zip(base_rounds, case_rounds, strict=True)
        ]
    )
    base, case = (undisturbed(np.concatenate(rounds)) for rounds in (base_rounds, case_rounds))
    of_launches, median = float(np.log(base / case)), float(np.median(of_rounds))
    for_launches, for_median = (
        float(np.mean(np.abs(of_rounds - one) <= AGREEMENT)) for one in (of_launches, median)
    )
    is_confirmed = for_launches >= min(MIN_AGREEING, for_median)
    return of_launches if is_confirmed else median


def experienced_log_ratio(base_means: Sequence[float], case_means: Sequence[float]) -> float:
    """ln(base's step time / case's step time) as it was experienced, disturbances included.

    The arguments are the mean step times of the two launches' turns, one for each common round, in
    order. In one round both ran under about the same conditions, so most of the machine's drift
    cancels. Raises ValueError if there is no round, their numbers differ, or a time is not a
    finite number above 0.
    """
    _require_pairs(len(base_means), len(case_means))
    base, case = (_times(means) for means in (base_means, case_means))
    return hodges_lehmann(np.log(base / case).tolist())


def _low_quantile(samples: Floats, quantile: float) -> float:
    return float(np.quantile(_times(samples), quantile, method="median_unbiased"))


def _times(values: Floats) -> np.ndarray:
    times = np.asarray(values, dtype=np.float64)
    if times.size == 0 or not (np.isfinite(times).all() and (times > 0).all()):
        raise ValueError(f"received times {times.tolist()}, expected finite numbers above 0")
    return times


def _require_pairs(num_base: int, num_case: int) -> None:
    if num_base != num_case or not num_base:
        raise ValueError(
            f"received {num_base} rounds of the base and {num_case} of the case, expected the same"
            " number, and one or more"
        )
