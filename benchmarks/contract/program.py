"""The contract of an implementation: a program that is built, loaded, fed, stepped and read.

`workloads/<model>/<framework>/*.py` (or one `<framework>_impl.py`) hold literals, which are read
without importing the file, and a function:
    IMPLEMENTS = {name, ...}                  workloads
    PER_REPLICA = {name, ...}                 workloads whose batch statistics it takes over each
                                              of `Work.num_replicas` parts of the batch, on as many
                                              devices or on one
    DIFFERS = {name: reason, ...}             workloads whose mathematics it changes, and how: they
                                              are measured, but not compared
    TUNED = {name: rewriting, ...}            workloads that it also offers with `recipe=tuned`, and
                                              in a few words the operations that it then rewrites
    TUNED_ON = {name: {device, ...}, ...}     kinds of devices on which a tuned recipe rewrites; all
                                              of them for a workload that is not named
    EXPORTED_FROM = {framework: module, ...}  programs that export the model that it loads, each by
                                              the framework that runs it
    QUANTISED_BY = {framework: module, ...}   programs that quantise that model for int8
    def build(problem, framework) -> Program
NumPy and standard library only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

import numpy as np

from benchmarks.contract.case import Case

Arrays = Mapping[str, np.ndarray]
"""Named arrays in canonical names and layout."""


@dataclass(frozen=True)
class Exporter:
    """A program that makes files of canonical weights for another framework to load."""

    module: str
    """Run as `python -m module`."""
    python: str
    """The interpreter of the framework that exports."""


@dataclass(frozen=True)
class Problem:
    """The problem that an implementation builds its program for."""

    case: Case
    parameters: Mapping[str, int]
    """The size's parameter set."""
    hyperparameters: Mapping[str, float]
    scratch_folder: str = ""
    """The launch's private folder, which is removed after it."""
    export_folder: str = ""
    """The folder of the files that `RequestProgram.export` makes and `load` takes, and of no other
    files. If an earlier launch's are in it, `export` is not called."""
    exporters: Mapping[str, Exporter] = field(default_factory=dict)
    """Programs that make the files which `RequestProgram.load` takes, each by its framework."""


@dataclass(frozen=True)
class Effective:
    """The settings that a program really uses, read back from its own tensors and graphs."""

    parameters: str
    """Dtype of the parameters; all dtypes here have NumPy's name or bfloat16."""
    activations: str
    """Dtype of the output of a layer in the middle."""
    flop_per_step: int | None
    """The framework's own count for one step over all devices; None if it has none."""
    gradients: str | None = None
    """Dtype of the gradients; None in inference, as the optimizer's."""
    optimizer: str | None = None
    layout: str | None = None
    """Layout of images, if the program fixes it: NHWC or NCHW."""
    attention: str | None = None
    """The attention kernel that ran, if there is attention."""
    folded: str | None = None
    """The operations that were folded into the weights beforehand, such as batch normalisation."""
    integer_products: tuple[int, int] | None = None
    """For a quantised model, the number of convolutions and matmuls in integers, and of all."""


class Reading(Mapping[str, np.ndarray]):
    """Arrays that are fetched at each access: a large state is never copied as a whole."""

    def __init__(self, fetch: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._fetch = dict(fetch)

    def __getitem__(self, name: str) -> np.ndarray:
        """A new copy of the array of this name."""
        return self._fetch[name]()

    def __contains__(self, name: object) -> bool:
        """Whether there is an array of this name, without fetching it."""
        return name in self._fetch

    def __iter__(self) -> Iterator[str]:
        """The names of the arrays."""
        return iter(self._fetch)

    def __len__(self) -> int:
        """The number of arrays."""
        return len(self._fetch)


class Program(Protocol):
    """One implementation of a workload, ready to be timed and to be proven."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state."""

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; steps rotate through them, beginning with the first.

        Each is a global batch: with N devices, the i-th gets the i-th of N equal parts.
        """

    def step(self) -> Any:
        """Enqueue one unit of work and return its loss, still on the device; never block."""

    def read(self) -> Arrays:
        """The program's state, in canonical names and layout, float32 or wider, as copies.

        Keys: `loss` (of the last step, scalar), `weights/<name>`, `optimizer/<name>` (SGD's
        momentum buffer, Adam's first moment), `second_moment/<name>` (Adam's), `frozen/<name>`
        (weights that are not trained), `statistics/<name>` (running mean and variance). The result
        is used before the next step, so that it may be a `Reading`.
        """

    def inspect(self) -> Effective:
        """The program's effective settings; it may take a step's time and change the state.

        Called after a step and before the next `load`.
        """


class RequestProgram(ABC):
    """One implementation of an inference workload: one request is in flight at a time.

    After `feed` it answers the requests of the first batch, then of the next, and so on in a ring.
    """

    def export(self, weights: Arrays) -> None:  # noqa: B027 - most export nothing
        """Make the files that `load` takes, in `Problem.export_folder`.

        They are kept for later launches. What is written to the launch's private folder is not:
        then each launch exports.
        """

    @abstractmethod
    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics, and prepare everything that is prepared once."""

    @abstractmethod
    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next request is the first of the first batch."""

    def prepare(self) -> Any:
        """Set up the state for the next request, untimed; returns values to wait for, or None."""
        return None

    @abstractmethod
    def step(self) -> Any:
        """Enqueue the next request and return its answer, still on the device; never block."""

    @abstractmethod
    def read(self) -> Arrays:
        """The `logits` of the last request, BV, float32 or wider, as a copy."""

    @abstractmethod
    def inspect(self) -> Effective:
        """The program's effective settings; it may take a request's time."""

    def artefact_bytes(self) -> int | None:
        """Size of the exported files; None if there are none."""
        return None
