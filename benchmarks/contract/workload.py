"""What a workload folder offers: its mathematics as a WorkloadSpec, its code as Programs.

`workloads/<model>/spec.py` holds `SPECS = {name: WorkloadSpec, ...}` and imports NumPy only.
`workloads/<model>/<framework>_impl.py` holds the literal `IMPLEMENTS = {name, ...}`, read without
importing the file, and `build(problem, framework) -> Program`.
NumPy and standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

import numpy as np

from benchmarks.contract.case import Case, Option, Way, Work

Arrays = Mapping[str, np.ndarray]
"""Named arrays in canonical names and layout."""

NUM_BATCHES = 8
"""Distinct batches that a program's steps rotate through, so that no step repeats its input."""


Tolerance = Mapping[str, float]
"""How far an implementation may be from the oracle in one precision: the largest error of each
check of `equivalence.checks`, by its name. A check that is not named is shown and not judged.
The derivation stands beside the values in the spec."""


@dataclass(frozen=True)
class WorkloadSpec:
    """A workload, framework-neutral: everything that an implementation must reproduce."""

    name: str
    version: int
    unit: str
    """What items are: image, token or request."""
    sizes: Mapping[str, Mapping[str, int]]
    """Named parameter sets; every set has the same keys."""
    default_batch_size: Mapping[str, int]
    """The batch size of each size where none is asked for."""
    precisions: tuple[str, ...]
    """The precisions in which the mathematics is defined."""
    hyperparameters: Mapping[str, float]
    """Constants of the mathematics: learning rate, momentum, epsilon, ..."""
    weights: Callable[[Work], Iterator[tuple[str, np.ndarray]]]
    """Canonical initial weights and statistics, name by name, float32."""
    batch: Callable[[Work, int], dict[str, np.ndarray]]
    """The index-th canonical batch."""
    items_per_step: Callable[[Work], int]
    flop_per_step: Callable[[Work], int]
    """FLOP of the model's tensor operations in one step, 2 per multiply-add, analytic."""
    memory_bytes: Callable[[Work, Way], int]
    """An upper estimate of one launch's memory for weights, gradients, states and activations."""
    gradients: Callable[[Arrays, Arrays], Iterator[tuple[str, np.ndarray]]]
    """(initial weights, `Program.read` after step 1) to the gradient of each parameter, taken from
    the optimizer's state, so that no twin of the timed program is checked in its stead. Element by
    element: of a slice of one parameter's arrays it makes that slice of its gradient."""
    tolerances: Mapping[str, Tolerance]
    options: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    """The workload's own axes, each with its enumerable values, the default first."""
    trajectory: Mapping[str, float] = field(default_factory=dict)
    """Hyperparameters that replace the usual ones where ten steps are followed: a learning rate
    so small that rounding is not amplified from step to step."""
    proxies: tuple[str, ...] = ()
    """Sizes whose proof stands in for a size whose oracle cannot be computed: the same layers, and
    some of them at the true width."""
    stable_gradients: tuple[str, ...] = ()
    """Parameters whose gradients rounding leaves comparable even in reduced precision."""


@dataclass(frozen=True)
class Problem:
    """What an implementation is asked to build."""

    case: Case
    parameters: Mapping[str, int]
    """The size's parameter set."""
    hyperparameters: Mapping[str, float]


@dataclass(frozen=True)
class Effective:
    """What a program really works with, read back from its own tensors and graphs."""

    parameters: str
    """Dtype, as the other dtypes here by NumPy's name or bfloat16."""
    gradients: str
    optimizer: str
    activations: str
    """Dtype of what a layer in the middle returns."""
    layout: str
    """Of the activations where the program fixes it: NHWC or NCHW."""
    flop_per_step: int | None
    """The framework's own count for one step, None where it has none."""


class Program(Protocol):
    """One implementation of a workload, ready to be timed and to be proven."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state."""

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next step uses the first, and steps rotate."""

    def step(self) -> Any:
        """Enqueue one unit of work and return its loss, still on the device; never block."""

    def read(self) -> dict[str, np.ndarray]:
        """Copies of what the program holds, in canonical names and layout, float32 or wider.

        Keys: `loss` (of the last step, scalar), `weights/<name>`, `optimizer/<name>` (SGD's
        momentum buffer), `statistics/<name>` (running mean and variance).
        """

    def inspect(self) -> Effective:
        """What the program works with; may take a step's time, and may change its state.

        Called after a step and before the next `load`.
        """


def problem_of(case: Case, spec: WorkloadSpec) -> Problem:
    """The problem that a case poses; KeyError where the spec has no such size."""
    return Problem(
        case=case,
        parameters=spec.sizes[case.work.size],
        hyperparameters=spec.hyperparameters,
    )
