"""What an implementation is: a program that is built for a problem, loaded, fed, stepped and read.

`workloads/<model>/<framework>/*.py` (or one `<framework>_impl.py`) hold literals, which are read
without importing the file, and a function:
    IMPLEMENTS = {name, ...}                  workloads
    PER_REPLICA = {name, ...}                 those whose batch statistics it takes over each of
                                              `Work.num_replicas` parts of the batch, on as many
                                              devices or on one
    DIFFERS = {name: reason, ...}             those whose mathematics is not the workload's, and
                                              how: they are measured, and compared with nothing
    EXPORTED_FROM = {framework: module, ...}  if it loads a model that another framework exports
    QUANTISED_BY = {framework: module, ...}   and that is quantised for int8
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
    """What an implementation is asked to build."""

    case: Case
    parameters: Mapping[str, int]
    """The size's parameter set."""
    hyperparameters: Mapping[str, float]
    scratch_folder: str = ""
    """The launch's private folder, which is removed after it."""
    exporters: Mapping[str, Exporter] = field(default_factory=dict)
    """Programs that make the files which `RequestProgram.load` takes, each by its framework."""


@dataclass(frozen=True)
class Effective:
    """What a program really works with, read back from its own tensors and graphs."""

    parameters: str
    """Dtype, as the other dtypes here by NumPy's name or bfloat16."""
    activations: str
    """Dtype of what a layer in the middle returns."""
    flop_per_step: int | None
    """The framework's own count for one step over all devices, None where it has none."""
    gradients: str | None = None
    """As the optimizer's state only where there is training."""
    optimizer: str | None = None
    layout: str | None = None
    """Of images where the program fixes it: NHWC or NCHW."""
    attention: str | None = None
    """The kernel of the attention that ran, where there is one."""
    folded: str | None = None
    """What was computed into the weights beforehand, as batch normalisation is for inference."""
    integer_products: tuple[int, int] | None = None
    """Of a quantised model, how many of its convolutions or products are of integers, of how many.
    """


class Reading(Mapping[str, np.ndarray]):
    """Arrays that are fetched when they are asked for: a large state is never copied as a whole."""

    def __init__(self, fetch: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._fetch = dict(fetch)

    def __getitem__(self, name: str) -> np.ndarray:
        """The array of this name, copied anew."""
        return self._fetch[name]()

    def __contains__(self, name: object) -> bool:
        """Whether there is an array of this name, without fetching it."""
        return name in self._fetch

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._fetch)

    def __len__(self) -> int:
        """Their number."""
        return len(self._fetch)


class Program(Protocol):
    """One implementation of a workload, ready to be timed and to be proven."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state."""

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next step uses the first, and steps rotate.

        Each is a global batch: of N devices the i-th gets the i-th of N equal parts.
        """

    def step(self) -> Any:
        """Enqueue one unit of work and return its loss, still on the device; never block."""

    def read(self) -> Arrays:
        """What the program holds, in canonical names and layout, float32 or wider, as copies.

        Keys: `loss` (of the last step, scalar), `weights/<name>`, `optimizer/<name>` (SGD's
        momentum buffer, Adam's first moment), `second_moment/<name>` (Adam's), `frozen/<name>`
        (weights that are not trained), `statistics/<name>` (running mean and variance). What it
        returns is used before the next step: a `Reading` fetches then.
        """

    def inspect(self) -> Effective:
        """What the program works with; may take a step's time, and may change its state.

        Called after a step and before the next `load`.
        """


class RequestProgram(ABC):
    """One implementation of an inference workload: one request is in flight at a time.

    After `feed` it answers the requests of the first batch, then of the next, and so on in a ring.
    """

    def export(self, weights: Arrays) -> None:  # noqa: B027 - most export nothing
        """Make the files that `load` takes, in the launch's private folder."""

    @abstractmethod
    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics, and make everything that is made once of them."""

    @abstractmethod
    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next request is the first one's first."""

    def prepare(self) -> Any:
        """Bring about what the next request finds, untimed; what to wait for, or None."""
        return None

    @abstractmethod
    def step(self) -> Any:
        """Enqueue the next request and return its answer, still on the device; never block."""

    @abstractmethod
    def read(self) -> Arrays:
        """The `logits` of the last request, BV, float32 or wider, as a copy."""

    @abstractmethod
    def inspect(self) -> Effective:
        """What the program works with; may take a request's time."""

    def artefact_bytes(self) -> int | None:
        """Size of what `export` has made; None if it makes nothing."""
        return None
