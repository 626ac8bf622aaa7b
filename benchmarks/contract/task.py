"""Kinds of work: what a workload's spec says about its kind, and the module for the worker.

A kind of work is a `TaskSpec` and the module that it names, in which `create(context)` returns the
worker's side of it (`benchmarks.worker.tasks.protocol.Task`). Nothing else in the harness knows
which kinds exist. NumPy and standard library only.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Callable, ClassVar, NamedTuple

import numpy as np

from benchmarks.contract.case import Case, Work
from benchmarks.contract.mistake import OtherConstant
from benchmarks.contract.program import Arrays
from benchmarks.contract.protocol import MeasuringProtocol

NUM_BATCHES = 8
"""Distinct batches that a program's steps rotate through, so that no step repeats its input."""
NUM_REQUESTS = 64
"""Distinct requests that an inference program rotates through, so that no cache has the answer."""
NUM_WITHHELD = 12
"""Further requests for the proof, which are never timed."""
WITHHELD = tuple(range(NUM_REQUESTS, NUM_REQUESTS + NUM_WITHHELD))
"""The indices of the withheld requests among the canonical batches."""

Tolerance = Mapping[str, float]
"""The tolerances of one precision: the largest error that passes in each check of
`equivalence.checks`, by the check's name. A check without a tolerance is shown but not judged.
The spec derives the values beside them."""


class OracleStep(NamedTuple):
    """The unit of work that an oracle computes at once."""

    flop: int
    unit: str
    """The unit's name in messages, such as "step"."""


class TaskSpec(ABC):
    """The properties of a kind of work that the harness needs."""

    module: ClassVar[str]
    """The module whose `create(context)` returns the worker's side."""
    num_batches: ClassVar[int]
    """Number of canonical batches."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Settings of `protocol.TASK_SETTINGS` that its numbers depend on."""
    is_followed: ClassVar[bool] = False
    """Whether an oracle may cover ten consecutive steps as well."""

    def steps_per_turn(self, protocol: MeasuringProtocol) -> int | None:
        """Steps of each turn's block; None if the block's length decides their number."""
        del protocol
        return None

    def prepares(self, work: Work) -> bool:
        """Whether there is work before a step that is not timed with it, such as a prompt."""
        del work
        return False

    def oracle_step(self, flop_per_step: int, work: Work) -> OracleStep:
        """The unit of work that an oracle computes at once, from the FLOP of one step."""
        del work
        return OracleStep(flop_per_step, "step")


@dataclass(frozen=True)
class Training(TaskSpec):
    """A step is forward, backward and update on one batch; blocks of steps are timed."""

    module: ClassVar[str] = "benchmarks.worker.tasks.training.task"
    num_batches: ClassVar[int] = NUM_BATCHES
    is_followed: ClassVar[bool] = True


def _no_known_mistakes(
    work: Work, weights: Arrays, batch: Arrays
) -> Iterator[tuple[str, np.ndarray]]:
    del work, weights, batch
    return iter(())


def _no_other_constants(work: Work, weights: Arrays, batch: Arrays) -> Iterator[OtherConstant]:
    del work, weights, batch
    return iter(())


FreeRunning = Callable[[Work, Arrays, Arrays, np.ndarray, np.ndarray, Tolerance], np.ndarray]
HandedOut = Callable[[Work, Arrays, Arrays, np.ndarray, Tolerance], np.ndarray]


@dataclass(frozen=True)
class Inference(TaskSpec):
    """A step is a request, answered and timed by itself.

    The canonical batches are requests: programs rotate through the first NUM_REQUESTS, which are
    timed; the WITHHELD ones are for the proof.
    """

    module: ClassVar[str] = "benchmarks.worker.tasks.inference.task"
    num_batches: ClassVar[int] = NUM_REQUESTS + NUM_WITHHELD
    settings: ClassVar[tuple[str, ...]] = ("requests_per_turn", "percentiles")

    per_batch: Callable[[Work], int]
    """Requests in one batch, one after another: 1, or the number of decoded tokens."""
    answer_error: Callable[[np.ndarray, Arrays], float]
    """Maps (the answer that the client received, `RequestProgram.read` after it) to the answer's
    error against the one that follows from these logits; 0 if they agree."""
    known_mistakes: Callable[[Work, Arrays, Arrays], Iterator[tuple[str, np.ndarray]]] = (
        _no_known_mistakes
    )
    """Maps (work, weights, batch) to (description, logits RBV) of known mistakes. If a program's
    logits match one of them, it is reported as the likely cause. NumPy only."""
    other_constants: Callable[[Work, Arrays, Arrays], Iterator[OtherConstant]] = _no_other_constants
    """Maps (work, weights, batch) to constants that a program may have with another value. If a
    value of one explains a program's logits, it is reported as the likely cause. NumPy only."""
    recompute: Callable[[Work, Arrays, Arrays], np.ndarray] | None = None
    """Maps (work, weights, batch) to the logits RBV of all its requests, computed without any state
    between them: a program that keeps a cache must give the same. NumPy, float64."""
    free_running: FreeRunning | None = None
    """Maps (work, weights, batch, answers RB, their logits RBV, tolerance) to the expected logits
    RBV when the program is fed its own output (free-running decode). NumPy, float64."""
    handed_out: HandedOut | None = None
    """Maps (work, weights, batch, answers RB, tolerance) to the logits RBV that such answers follow
    from, if the program was fed its own output. NumPy, float64."""
    num_weight_bytes: Callable[[Case], int] | None = None
    """Bytes of the weights in the case's precision: the least size of an exported model."""
    flop_before: Callable[[Work], int] = lambda work: 0
    """FLOP of the work before a batch's requests that is not timed with them, such as a prompt."""

    def steps_per_turn(self, protocol: MeasuringProtocol) -> int | None:
        """The number of requests in each turn."""
        return protocol.requests_per_turn

    def prepares(self, work: Work) -> bool:
        """Whether a prompt or the like comes before the requests."""
        return self.flop_before(work) > 0

    def oracle_step(self, flop_per_step: int, work: Work) -> OracleStep:
        """A batch of requests, with the work before them."""
        flop = flop_per_step * self.per_batch(work) + self.flop_before(work)
        return OracleStep(flop, "batch of requests")
