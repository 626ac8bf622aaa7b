"""The formulas of optimizers on a program's own state after step 1, right or with a mistake.

NumPy and the contract only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Callable

import numpy as np

from benchmarks.contract.program import Arrays
from benchmarks.equivalence.trace import Trace

Formula = Callable[[Arrays, str], np.ndarray]
"""Maps a step's arrays and a parameter's name to its update without decay, flat."""

ADAM_CONSTANTS = {"learning_rate", "beta1", "beta2", "epsilon"}
SGD_CONSTANTS = {"learning_rate", "momentum"}
"""The hyperparameters that each optimizer's formula needs."""
EPSILON_RESIDUAL = 0.02
"""Largest relative difference between a found epsilon and the known one that it counts as."""


@dataclass(frozen=True)
class Adam:
    """Adam's first step, right or with a mistake: Kingma and Ba (2015), algorithm 1."""

    name: str
    rate: float
    first_correction: float
    """Divides the first moment."""
    second_correction: float
    """Divides the second moment."""
    epsilon: float
    is_inside: bool = False
    """Whether epsilon is added inside of the root."""

    def step(self, arrays: Arrays, name: str) -> np.ndarray:
        """The update without decay, flat."""
        first = _flat(arrays, "optimizer", name) / self.first_correction
        square = _flat(arrays, "second_moment", name) / self.second_correction
        if self.is_inside:
            return np.asarray(-self.rate * first / np.sqrt(square + self.epsilon))
        return np.asarray(-self.rate * first / (np.sqrt(square) + self.epsilon))


def formula_of(trace: Trace) -> Formula | None:
    """The update that the optimizer computes from its own state; None if it is not known."""
    adam = right_adam(trace)
    if adam is not None:
        return adam.step
    constants = trace.spec.hyperparameters
    if trace.errors.second_moments or not constants.keys() >= SGD_CONSTANTS:
        return None
    return lambda arrays, name: -constants["learning_rate"] * _flat(arrays, "optimizer", name)


def right_adam(trace: Trace) -> Adam | None:
    """Adam with the workload's constants; None if the optimizer is another one."""
    constants = trace.spec.hyperparameters
    if not trace.errors.second_moments or not constants.keys() >= ADAM_CONSTANTS:
        return None
    return Adam(
        "Adam",
        constants["learning_rate"],
        first_correction=1 - constants["beta1"],
        second_correction=1 - constants["beta2"],
        epsilon=constants["epsilon"],
    )


def adam_mistakes(trace: Trace) -> list[Adam]:
    """The mistakes in Adam's formula that are compared with the update."""
    right = right_adam(trace)
    if right is None:
        return []
    first, second = 1 - right.first_correction, 1 - right.second_correction
    outside = right.epsilon / math.sqrt(right.second_correction)
    found = [
        replace(
            right,
            name="Adam's bias correction is one step ahead: step 1 is corrected as step 2",
            first_correction=1 - first**2,
            second_correction=1 - second**2,
        ),
        replace(
            right,
            name="Adam's bias correction is missing",
            first_correction=1.0,
            second_correction=1.0,
        ),
        replace(
            right,
            name="Adam's bias correction of the first moment is missing",
            first_correction=1.0,
        ),
        replace(
            right,
            name="Adam's bias correction of the second moment is missing",
            second_correction=1.0,
        ),
        replace(
            right,
            name=(
                "Adam's epsilon is added to the uncorrected root: at step 1 this acts as"
                f" {outside:.3g} in place of {right.epsilon:.3g}"
            ),
            epsilon=outside,
        ),
        replace(right, name="Adam's epsilon is added inside of the root", is_inside=True),
    ]
    epsilon = adam_epsilon(trace)
    if epsilon is not None and abs(epsilon / outside - 1) > EPSILON_RESIDUAL:
        name = f"Adam's epsilon is {epsilon:.3g} in place of {right.epsilon:.3g}"
        found.append(replace(right, name=name, epsilon=epsilon))
    return found


def adam_epsilon(trace: Trace) -> float | None:
    """The epsilon that explains the update, u = -rate m / (sqrt(v) + epsilon); None without one.

    A decoupled decay cancels against the oracle's update. The smallest gradients determine epsilon
    best.
    """
    right = right_adam(trace)
    if right is None:
        return None
    rate, gathered = trace.spec.hyperparameters["learning_rate"], []
    for name in parameters_of(trace):
        moved = rate * _flat(trace.read, "optimizer", name) / right.first_correction
        root = np.sqrt(_flat(trace.read, "second_moment", name) / right.second_correction)
        decay = moved_by(trace, trace.oracle, name) - right.step(trace.oracle, name)
        step = decay - moved_by(trace, trace.read, name)
        small = (root > 0) & (root < 1e3 * right.epsilon) & (step * moved > 0)
        gathered.append(moved[small] / step[small] - root[small])
    found = np.concatenate(gathered)
    return float(np.median(found)) if found.size else None


def ratio_of_moments(trace: Trace) -> float | None:
    """Adam's second moment over the square of its first, relative to the right ratio."""
    right = right_adam(trace)
    if right is None:
        return None
    product, square = 0.0, 0.0
    for name in parameters_of(trace):
        first = np.square(_flat(trace.read, "optimizer", name))
        product += float(first @ _flat(trace.read, "second_moment", name))
        square += float(first @ first)
    return (
        product / square * right.first_correction**2 / right.second_correction if square else None
    )


def parameters_of(trace: Trace) -> list[str]:
    """The names of the trained parameters."""
    return [error.name for error in trace.errors.updates]


def moved_by(trace: Trace, arrays: Arrays, name: str) -> np.ndarray:
    """The change of a parameter by the step, flat."""
    return _flat(arrays, "weights", name) - np.asarray(trace.initial[name], np.float64).ravel()


def _flat(arrays: Arrays, group: str, name: str) -> np.ndarray:
    return np.asarray(arrays[f"{group}/{name}"], np.float64).ravel()
