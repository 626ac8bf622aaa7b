"""Evidence that the timed program did the work: what its first step computed, in a few numbers.

NumPy and the contract only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.workload import Arrays, WorkloadSpec


@dataclass(frozen=True)
class StepEvidence:
    """The first step from the canonical weights on the first canonical batch."""

    loss: float
    gradient_norm: float | None
    """Global L2 norm of the gradient, from the optimizer's state; None without parameters."""
    update_norm: float | None
    """Global L2 norm of what the step added to the parameters; None without parameters."""
    statistics_norm: float | None
    """Global L2 norm of the running statistics after the step; None without any."""
    num_parameters: int
    num_unchanged: int
    """Parameters' arrays that the step left exactly as they were."""
    failure: str | None


def step_evidence(spec: WorkloadSpec, initial: Arrays, read: Arrays) -> StepEvidence:
    """What `Program.read` shows after one step that began at the initial weights."""
    names = [name for name in initial if f"optimizer/{name}" in read]
    unchanged = [n for n in names if np.array_equal(initial[n], read[f"weights/{n}"])]
    gradients = (array for _, array in spec.gradients(initial, read)) if names else ()
    updates = (read[f"weights/{name}"] - initial[name] for name in names)
    statistics = [array for name, array in read.items() if name.startswith("statistics/")]
    return StepEvidence(
        loss=float(read["loss"]),
        gradient_norm=_norm(gradients),
        update_norm=_norm(updates),
        statistics_norm=_norm(statistics),
        num_parameters=sum(initial[name].size for name in names),
        num_unchanged=len(unchanged),
        failure=f"no step was made: {unchanged[0]} is unchanged" if unchanged else None,
    )


def is_finite(read: Arrays) -> bool:
    """Whether the loss and every array that a program holds are finite."""
    return all(bool(np.isfinite(array).all()) for array in read.values())


def _norm(arrays: Iterable[np.ndarray]) -> float | None:
    squares = [float(np.square(array, dtype=np.float64).sum()) for array in arrays]
    return math.sqrt(sum(squares)) if squares else None
