"""The input of the rules that name causes: a step, the oracle's step and their differences.

NumPy and the contract only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Callable, NamedTuple

import numpy as np

from benchmarks.contract.case import Work
from benchmarks.contract.mistake import OtherConstant, Outcome
from benchmarks.contract.program import Arrays
from benchmarks.contract.task import Tolerance
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.equivalence.checks import StepErrors
from benchmarks.equivalence.norms import TensorError

FACTOR_RESIDUAL = 1e-2
"""Largest residual of a tensor whose error counts as a factor."""


class Suspects(NamedTuple):
    """The mistakes that the workload can compute for one step."""

    mistakes: Callable[[], Iterable[tuple[str, float | Outcome]]] = tuple
    """Yields (description, outcome) of known mistakes in the forward pass."""
    constants: Callable[[], Iterable[OtherConstant]] = tuple
    """Yields constants of the forward pass that may have another value."""
    products_are_exact: bool = True
    """Whether the framework's own matmul and convolution were just measured to be as exact as the
    precision asks: then no difference is blamed on the precision."""
    work: Work | None = None


NO_SUSPECTS = Suspects()


class Trace(NamedTuple):
    """The input of the rules."""

    spec: WorkloadSpec
    initial: Arrays
    read: Arrays
    oracle: Arrays
    errors: StepErrors
    tolerance: Tolerance
    suspects: Suspects = NO_SUSPECTS

    def limit(self, name: str) -> float:
        """The tolerance of a check, or a small number if it has none."""
        return self.tolerance.get(name, 1e-2)

    @property
    def is_finite(self) -> bool:
        """Whether the loss and every array of the step are finite."""
        errors = self.errors
        tensors = (*errors.gradients, *errors.updates, *errors.statistics, *errors.second_moments)
        return all(map(math.isfinite, (errors.loss, *(one.difference for one in tensors))))

    def stable_gradients(self, read: Arrays) -> dict[str, np.ndarray]:
        """The gradients of a step that are comparable in any precision, by parameter."""
        names = [one for one in self.spec.stable_gradients if f"optimizer/{one}" in read]
        initial = {name: self.initial[name] for name in names}
        return {name: np.asarray(one) for name, one in self.spec.gradients(initial, read)}


def common_factor(errors: Sequence[TensorError]) -> float | None:
    """The factor by which all of these tensors are off, or None."""
    scales = [e.scale for e in errors if e.scale and _is_factor(e.scale, e.residual)]
    if not scales or len(scales) < len(errors):
        return None
    factor = float(np.median(scales))
    allowed = FACTOR_RESIDUAL * abs(factor - 1)
    return factor if max(abs(scale - factor) for scale in scales) <= allowed else None


def _is_factor(scale: float, residual: float) -> bool:
    """Whether the factor explains most of a tensor's error."""
    return residual < min(FACTOR_RESIDUAL, abs(scale - 1))


def listed(names: Sequence[str]) -> str:
    """The first name and the number of the others."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"
