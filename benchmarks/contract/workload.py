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


@dataclass(frozen=True)
class Tolerance:
    """How far two implementations of one workload may differ in one precision.

    All figures are relative. Their derivation stands beside the values in the spec.
    """

    loss: float
    """|loss - reference| / |reference| at step 1."""
    gradient_norm: float
    """The same of the global L2 norm of the gradient at step 1."""


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
    the optimizer's state, so that no twin of the timed program is checked in its stead."""
    tolerances: Mapping[str, Tolerance]
    options: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    """The workload's own axes, each with its enumerable values, the default first."""


@dataclass(frozen=True)
class Problem:
    """What an implementation is asked to build."""

    case: Case
    parameters: Mapping[str, int]
    """The size's parameter set."""
    hyperparameters: Mapping[str, float]


class Program(Protocol):
    """One implementation of a workload, ready to be timed and to be proven."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state."""

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next step uses the first, and steps rotate."""

    def step(self) -> Any:
        """Enqueue one unit of work and return what to wait for; never block."""

    def read(self) -> dict[str, np.ndarray]:
        """Copies of what the program holds, in canonical names and layout, float32 or wider.

        Keys: `loss` (of the last step, scalar), `weights/<name>`, `optimizer/<name>` (SGD's
        momentum buffer), `statistics/<name>` (running mean and variance).
        """


def problem_of(case: Case, spec: WorkloadSpec) -> Problem:
    """The problem that a case poses; KeyError where the spec has no such size."""
    return Problem(
        case=case,
        parameters=spec.sizes[case.work.size],
        hyperparameters=spec.hyperparameters,
    )
