"""Kinds of work: what a workload's spec says of its kind, and where a worker finds how it is done.

A kind of work is a `TaskSpec` and the module that it names, in which `create(context)` returns the
worker's side of it (`benchmarks.worker.tasks.protocol.Task`). Nothing else of the harness knows
which kinds there are. NumPy and standard library only.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Callable, ClassVar, NamedTuple

import numpy as np

from benchmarks.contract.case import Case, Work
from benchmarks.contract.program import Arrays
from benchmarks.contract.protocol import MeasuringProtocol

NUM_BATCHES = 8
"""Distinct batches that a program's steps rotate through, so that no step repeats its input."""
NUM_REQUESTS = 64
"""Distinct requests that an inference program rotates through: no answer is at hand in a cache."""
NUM_WITHHELD = 12
"""Requests beyond those, for the proof: none of them is ever among the timed ones."""
WITHHELD = tuple(range(NUM_REQUESTS, NUM_REQUESTS + NUM_WITHHELD))
"""Their indices among the canonical batches."""

Tolerance = Mapping[str, float]
"""How far an implementation may be from the oracle in one precision: the largest error of each
check of `equivalence.checks`, by its name. A check that is not named is shown and not judged.
The derivation stands beside the values in the spec."""


class OracleStep(NamedTuple):
    """What an oracle computes at once."""

    flop: int
    unit: str
    """For people, such as "step"."""


class TaskSpec(ABC):
    """What the harness asks of a kind of work."""

    module: ClassVar[str]
    """The module whose `create(context)` returns the worker's side."""
    num_batches: ClassVar[int]
    """Canonical batches that there are."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Settings of `protocol.TASK_SETTINGS` that its numbers depend on."""
    is_followed: ClassVar[bool] = False
    """Whether an oracle may hold ten more steps."""

    def steps_per_turn(self, protocol: MeasuringProtocol) -> int | None:
        """Steps of each turn's block; None if the block's length decides their number."""
        del protocol
        return None

    def oracle_step(self, flop_per_step: int, work: Work) -> OracleStep:
        """What an oracle computes at once, from the FLOP of one step."""
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


FreeRunning = Callable[[Work, Arrays, Arrays, np.ndarray, np.ndarray, Tolerance], np.ndarray]


@dataclass(frozen=True)
class Inference(TaskSpec):
    """A step is a request, answered and timed by itself.

    The canonical batches are requests: those up to NUM_REQUESTS are rotated through and timed, the
    WITHHELD ones are for the proof.
    """

    module: ClassVar[str] = "benchmarks.worker.tasks.inference.task"
    num_batches: ClassVar[int] = NUM_REQUESTS + NUM_WITHHELD
    settings: ClassVar[tuple[str, ...]] = ("requests_per_turn", "percentiles")

    per_batch: Callable[[Work], int]
    """Requests that one batch makes, one after another: 1, or the tokens that are decoded."""
    answer_error: Callable[[np.ndarray, Arrays], float]
    """(the answer as the client got it, `RequestProgram.read` after it) to how far the answer is
    from what these logits make of it; 0 if it is that."""
    known_mistakes: Callable[[Work, Arrays, Arrays], Iterator[tuple[str, np.ndarray]]] = (
        _no_known_mistakes
    )
    """Maps (work, weights, batch) to (description, logits RBV) of known mistakes. If a program's
    logits match one of them, it is reported as the likely cause. NumPy only."""
    recompute: Callable[[Work, Arrays, Arrays], np.ndarray] | None = None
    """Maps (work, weights, batch) to the logits RBV of all its requests, computed without any state
    between them: a program that answers from a cache must come to these. NumPy, float64."""
    free_running: FreeRunning | None = None
    """Maps (work, weights, batch, answers RB, their logits RBV, tolerance) to the expected logits
    RBV when the program is fed its own output (free-running decode). NumPy, float64."""
    num_weight_bytes: Callable[[Case], int] | None = None
    """Bytes of the weights in the case's precision, which an exported model holds at least."""
    flop_before: Callable[[Work], int] = lambda work: 0
    """FLOP of what comes before the requests of a batch and is not timed with them: a prompt."""

    def steps_per_turn(self, protocol: MeasuringProtocol) -> int | None:
        """Requests of each turn."""
        return protocol.requests_per_turn

    def oracle_step(self, flop_per_step: int, work: Work) -> OracleStep:
        """A batch of requests, with what comes before them."""
        flop = flop_per_step * self.per_batch(work) + self.flop_before(work)
        return OracleStep(flop, "batch of requests")
