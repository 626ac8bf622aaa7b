"""The contract of a workload: its mathematics as a WorkloadSpec, without any framework.

`workloads/<model>/spec.py` (or several `*_spec.py`) holds `SPECS = {name: WorkloadSpec, ...}` and
imports NumPy only. NumPy and standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Union

import numpy as np

from benchmarks.contract.case import Case, Option, Work
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.mistake import OtherConstant, Outcome
from benchmarks.contract.optimizer import Optimizer
from benchmarks.contract.program import (
    Arrays,
    Effective,
    Exporter,
    Problem,
    Program,
    Reading,
    RequestProgram,
)
from benchmarks.contract.task import (
    NUM_BATCHES,
    NUM_REQUESTS,
    WITHHELD,
    TaskSpec,
    Tolerance,
    Training,
)

__all__ = [
    "NUM_BATCHES",
    "NUM_REQUESTS",
    "WITHHELD",
    "Arrays",
    "Effective",
    "Problem",
    "Program",
    "Reading",
    "RequestProgram",
    "Tolerance",
]
"""Names that moved to `contract.program` and `contract.task`: older extension folders import them
here."""


Values = Union[tuple[Option, ...], range]
"""The values of an option: a few values, or every integer of a range."""


def _no_known_mistakes(work: Work, initial: Arrays, batch: Arrays) -> Iterator[tuple[str, Any]]:
    del work, initial, batch
    return iter(())


def _no_other_constants(work: Work, initial: Arrays, batch: Arrays) -> Iterator[OtherConstant]:
    del work, initial, batch
    return iter(())


def _no_gradients(initial: Arrays, read: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    del initial, read
    return iter(())


@dataclass(frozen=True)
class WorkloadSpec:
    """A workload, framework-neutral: everything that an implementation must reproduce."""

    name: str
    version: int
    unit: str
    """The unit of the items: image, token or request."""
    sizes: Mapping[str, Mapping[str, int]]
    """Named parameter sets; every set has the same keys."""
    default_batch_size: Mapping[str, int]
    """The default batch size of each size."""
    precisions: tuple[str, ...]
    """The precisions in which the mathematics is defined."""
    hyperparameters: Mapping[str, float]
    """Constants of the mathematics: learning rate, momentum, epsilon, ..."""
    weights: Callable[[Work], Iterator[tuple[str, np.ndarray]]]
    """Canonical initial weights and statistics, name by name, float32."""
    batch: Callable[[Work, int], dict[str, np.ndarray]]
    """The index-th canonical batch."""
    items_per_step: Callable[[Work], int]
    """Items in one step, over all devices."""
    flop_per_step: Callable[[Work], int]
    """FLOP of the model's tensor operations in one step over all devices, 2 per multiply-add,
    analytic."""
    memory_bytes: Callable[[Case, Capabilities], int]
    """An upper estimate of the memory of a case on one device, in the framework with these
    capabilities: weights, gradients, states and activations. `device_memory_bytes` extends it to
    several devices."""
    tolerances: Mapping[str, Tolerance]
    gradients: Callable[[Arrays, Arrays], Iterator[tuple[str, np.ndarray]]] = _no_gradients
    """Maps (initial weights, `Program.read` after step 1) to the gradient of each parameter, taken
    from the optimizer's state, so that the timed program itself is checked. It works element by
    element: from a slice of a parameter's arrays it gives that slice of the gradient."""
    optimizer: Optimizer | None = None
    """In training, the update that every step must make; the program's `read` returns the states
    that it names. Without it, what later steps do is not proven."""
    task: TaskSpec = field(default_factory=Training)
    """The kind of work of a step."""
    flop_convention: str = "2 FLOP for each multiply-add of a matmul or a convolution"
    """The operations that `flop_per_step` counts, in words: shown with every share of a peak."""
    options: Mapping[str, Values] = field(default_factory=dict)
    """The workload's own axes that change the mathematics. The first value is the default."""
    size_options: Mapping[str, Mapping[str, Option]] = field(default_factory=dict)
    """For each size, the options with another default at this size."""
    way_options: Mapping[str, Values] = field(default_factory=dict)
    """Axes that change how the work is computed, but not its mathematics; the default first."""
    trajectory: Mapping[str, float] = field(default_factory=dict)
    """Hyperparameters that replace the usual ones when ten consecutive steps are compared: a
    learning rate so small that rounding is not amplified from step to step."""
    proxies: tuple[str, ...] = ()
    """Sizes whose proof stands in for a size whose oracle cannot be computed: the same layers, and
    some of them at the true width."""
    per_replica_statistics: bool = False
    """Whether batch statistics are taken over each device's share of the batch, so that the number
    of devices is part of the mathematics: planning then sets `Work.num_replicas` to it."""
    stable_gradients: tuple[str, ...] = ()
    """Parameters whose gradients are comparable in reduced precision too, despite rounding."""
    every_value_of: tuple[str, ...] = ()
    """Options that take all of their values, instead of the default, if none is requested."""
    known_mistakes: Callable[[Work, Arrays, Arrays], Iterator[tuple[str, float | Outcome]]] = (
        _no_known_mistakes
    )
    """Maps (work, initial weights, batch) to (description, outcome) of known mistakes in the
    forward pass. An outcome is the loss of step 1, alone or with `stable_gradients`. If a program's
    wrong step 1 equals one of them, it is reported as the likely cause. NumPy only."""
    other_constants: Callable[[Work, Arrays, Arrays], Iterator[OtherConstant]] = _no_other_constants
    """Maps (work, initial weights, batch) to constants of the forward pass that a program may have
    with another value. If a value of one explains a program's step 1, it is reported as the likely
    cause. NumPy only."""

    def default_option(self, name: str, size: str) -> Option:
        """The default of an option at this size."""
        values = self.options.get(name) or self.way_options[name]
        return self.size_options.get(size, {}).get(name, values[0])


def device_memory_bytes(spec: WorkloadSpec, case: Case, capabilities: Capabilities) -> int:
    """An upper estimate of the memory on each device of a launch.

    Each holds all states and its share of the batch, as a case on one device with that share.
    """
    num_devices = case.place.num_devices
    share = replace(case.work, batch_size=-(-case.work.batch_size // num_devices), num_replicas=1)
    own = replace(case, work=share, place=replace(case.place, num_devices=1))
    return spec.memory_bytes(own, capabilities)


def problem_of(
    case: Case,
    spec: WorkloadSpec,
    *,
    scratch_folder: str = "",
    export_folder: str = "",
    exporters: Mapping[str, Exporter] | None = None,
) -> Problem:
    """The problem that a case poses; KeyError if the spec has no such size."""
    return Problem(
        case=case,
        parameters=spec.sizes[case.work.size],
        hyperparameters=spec.hyperparameters,
        scratch_folder=scratch_folder,
        export_folder=export_folder,
        exporters=exporters or {},
    )
