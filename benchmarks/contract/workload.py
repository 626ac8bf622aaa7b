"""What a workload is: its mathematics as a WorkloadSpec, free of any framework.

`workloads/<model>/spec.py` (or several `*_spec.py`) holds `SPECS = {name: WorkloadSpec, ...}` and
imports NumPy only. NumPy and standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Union

import numpy as np

from benchmarks.contract.case import Case, Option, Work
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.program import (
    Arrays,
    Effective,
    Exporter,
    Problem,
    Program,
    Reading,
    RequestProgram,
)

__all__ = ["Arrays", "Effective", "Problem", "Program", "Reading", "RequestProgram"]
"""What extension folders of before `contract.program` import from here."""

NUM_BATCHES = 8
"""Distinct batches that a program's steps rotate through, so that no step repeats its input."""
NUM_REQUESTS = 64
"""Distinct requests that an inference program rotates through: no answer is at hand in a cache."""
NUM_WITHHELD = 12
"""Requests beyond those, for the proof: none of them is ever among the timed ones."""
WITHHELD = tuple(range(NUM_REQUESTS, NUM_REQUESTS + NUM_WITHHELD))
"""Their indices among the canonical batches."""


Values = Union[tuple[Option, ...], range]
"""What an option may be: a few values, or every integer of a range."""

Tolerance = Mapping[str, float]
"""How far an implementation may be from the oracle in one precision: the largest error of each
check of `equivalence.checks`, by its name. A check that is not named is shown and not judged.
The derivation stands beside the values in the spec."""


def _no_known_mistakes(work: Work, initial: Arrays, batch: Arrays) -> Iterator[tuple[str, Any]]:
    del work, initial, batch
    return iter(())


def _no_gradients(initial: Arrays, read: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    del initial, read
    return iter(())


FreeRunning = Callable[[Work, Arrays, Arrays, np.ndarray, np.ndarray, Tolerance], np.ndarray]


@dataclass(frozen=True)
class Requests:
    """What makes a workload one of requests, each answered and timed by itself: inference.

    Its canonical batches are requests: those up to NUM_REQUESTS are rotated through and timed, the
    WITHHELD ones are for the proof.
    """

    per_batch: Callable[[Work], int]
    """Requests that one batch makes, one after another: 1, or the tokens that are decoded."""
    answer_error: Callable[[np.ndarray, Arrays], float]
    """(the answer as the client got it, `RequestProgram.read` after it) to how far it is from what
    it should be of these; 0 where it is that."""
    known_mistakes: Callable[[Work, Arrays, Arrays], Iterator[tuple[str, np.ndarray]]] = (
        _no_known_mistakes
    )
    """(work, weights, batch) to known mistakes, each with the logits of all requests of the batch
    that it leads to, RBV: where logits are off, the mistake whose they are is named. NumPy only."""
    recompute: Callable[[Work, Arrays, Arrays], np.ndarray] | None = None
    """(work, weights, batch) to the logits of all its requests without any state between them, RBV:
    where answers are made from a cache, they must be these. NumPy, float64."""
    free_running: FreeRunning | None = None
    """(work, weights, batch, answers to its requests RB, their logits RBV, tolerance) to the logits
    RBV that follow from these very answers without any state between requests: what a program has
    to come to that goes on with its own answers. NumPy, float64."""
    num_weight_bytes: Callable[[Case], int] | None = None
    """Bytes of the weights in the case's precision, which an exported model holds at least."""
    flop_before: Callable[[Work], int] = lambda work: 0
    """FLOP of what comes before the requests of a batch and is not timed with them: a prompt."""


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
    memory_bytes: Callable[[Case, Capabilities], int]
    """An upper estimate of one launch's memory for weights, gradients, states and activations, from
    the case and the capabilities of the framework that computes it."""
    tolerances: Mapping[str, Tolerance]
    gradients: Callable[[Arrays, Arrays], Iterator[tuple[str, np.ndarray]]] = _no_gradients
    """(initial weights, `Program.read` after step 1) to the gradient of each parameter, taken from
    the optimizer's state, so that no twin of the timed program is checked in its stead. Element by
    element: of a slice of one parameter's arrays it makes that slice of its gradient."""
    requests: Requests | None = None
    """Of inference: each step is then a request. None: training."""
    flop_convention: str = "2 FLOP for each multiply-add of a matrix product or a convolution"
    """What `flop_per_step` counts, for people: it stands beside every share of a peak."""
    options: Mapping[str, Values] = field(default_factory=dict)
    """The workload's own axes: what is computed. The first value is the default."""
    size_options: Mapping[str, Mapping[str, Option]] = field(default_factory=dict)
    """By size, the options whose default is another one there."""
    way_options: Mapping[str, Values] = field(default_factory=dict)
    """Axes that leave the work as it is and change how it is computed; the default first."""
    trajectory: Mapping[str, float] = field(default_factory=dict)
    """Hyperparameters that replace the usual ones where ten steps are followed: a learning rate
    so small that rounding is not amplified from step to step."""
    proxies: tuple[str, ...] = ()
    """Sizes whose proof stands in for a size whose oracle cannot be computed: the same layers, and
    some of them at the true width."""
    stable_gradients: tuple[str, ...] = ()
    """Parameters whose gradients rounding leaves comparable even in reduced precision."""
    every_value_of: tuple[str, ...] = ()
    """Options of which each value is a cell where none is asked for, in place of the default."""
    known_mistakes: Callable[[Work, Arrays, Arrays], Iterator[tuple[str, float]]] = (
        _no_known_mistakes
    )
    """(work, initial weights, batch) to known mistakes of the forward pass, each with the loss of
    step 1 that it leads to: where a loss is off, the one that it equals is named. NumPy only."""

    @property
    def num_batches(self) -> int:
        """Canonical batches that there are."""
        return NUM_BATCHES if self.requests is None else NUM_REQUESTS + NUM_WITHHELD

    def default_option(self, name: str, size: str) -> Option:
        """What an option is at this size where nothing is asked for."""
        values = self.options.get(name) or self.way_options[name]
        return self.size_options.get(size, {}).get(name, values[0])


def problem_of(
    case: Case,
    spec: WorkloadSpec,
    *,
    scratch_folder: str = "",
    exporters: Mapping[str, Exporter] | None = None,
) -> Problem:
    """The problem that a case poses; KeyError where the spec has no such size."""
    return Problem(
        case=case,
        parameters=spec.sizes[case.work.size],
        hyperparameters=spec.hyperparameters,
        scratch_folder=scratch_folder,
        exporters=exporters or {},
    )
