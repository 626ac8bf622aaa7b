"""What a launch asks of a kind of work: load it, time its steps, prove them.

A kind of work is a module with `create(context) -> Task`, which its `contract.task.TaskSpec` names.
Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from benchmarks.contract.evidence import UNPROVEN, Check, ParityVerdict
from benchmarks.contract.program import Arrays
from benchmarks.equivalence.checks import first_failure
from benchmarks.equivalence.verdict import judge
from benchmarks.worker.context import LaunchContext, LaunchFailedError
from benchmarks.worker.timing import BlockTime

MIN_SHARE_OF_AUDIT = 0.4
"""The smallest share of a checked step's time that the timed steps may take. Work that is left out
unless it is checked shows here: a backward pass is two thirds of a step. Above the limit lies what
queueing ahead of a device can save, which is up to a half, and noise."""
NO_ORACLE = "there is no oracle for this work"

CAUSES: Mapping[str, str] = {
    "gemm": "precision: TF32 or bf16 products under the name of a finer precision",
    "convolution": "precision: TF32 or bf16 products under the name of a finer precision",
    "reproduced": "state that `load` does not reset",
    "flop": "a layer or a backward pass that is missing, or made twice",
}
"""What is likely wrong if step 1 agrees with the oracle and this check fails."""


class Task(Protocol):
    """One program of a kind of work: how it is loaded, timed and proven."""

    program: Any
    """A `Program`, a `RequestProgram`, or what else the kind of work has; it has `inspect`."""
    steps_per_turn: int | None
    """Steps of each turn's block; None if their number follows from a block's length."""
    outputs: Any
    """What the last step returned."""

    def load(self) -> None:
        """Go through the phases that bring weights and batches."""

    def time_steps(self, num_steps: int, *, rewarm: bool) -> BlockTime:
        """The time of as many steps; with `rewarm` one goes untimed before them."""

    def step(self) -> Any:
        """Enqueue one step; what to wait for."""

    def read(self) -> Arrays:
        """What the program holds, as `Program.read`."""

    def prove_first(self) -> None:
        """Prove the step that was just made; LaunchFailedError if it is not the oracle's."""

    def begin_turns(self) -> None:
        """Called between the warm-up and the first turn."""

    def keep(self, block: BlockTime, *, num_steps: int) -> None:
        """Take notice of a timed block."""

    def prove_end(self) -> None:
        """Prove that the timed steps made the work; LaunchFailedError if they did not."""

    def prove_all(self, checks: Sequence[Check]) -> ParityVerdict:
        """The verdict on these checks and on everything that can be checked; nothing is timed.

        Goes through the phases itself. If the request names a folder to keep, this program holds
        the oracle: what it computes is written there.
        """


def final_verdict(
    verdict: ParityVerdict | None, checks: Sequence[Check], causes: Mapping[str, str]
) -> ParityVerdict:
    """The verdict of a whole proof, from that on the first step and from all checks.

    The causes are those of the first step if it is off, else `causes` of the first failure. A first
    holder of the oracle has no verdict: there is no oracle yet to compare it with.
    """
    if verdict is None:
        return ParityVerdict(UNPROVEN, tuple(checks), reason="it holds the oracle")
    failed, known = first_failure(checks), {**CAUSES, **causes}
    told = [known[failed.name]] if failed is not None and failed.name in known else []
    return judge(
        checks,
        oracle=verdict.oracle,
        first_difference=verdict.first_difference,
        causes=verdict.causes or told,
    )


def require_share(context: LaunchContext, share: float) -> None:
    """LaunchFailedError if the timed steps took this small a share of a checked one's time."""
    context.evidence.share_of_audit = share
    if share < MIN_SHARE_OF_AUDIT:
        raise LaunchFailedError(
            "invalid_work",
            f"the timed steps took {share:.0%} of the time of a step that was checked"
            f" (at least {MIN_SHARE_OF_AUDIT:.0%} expected): they left work out",
        )


def create(context: LaunchContext) -> Task:
    """The task of a launch's kind of work, its program built and not loaded."""
    context.enter("build")
    module = importlib.import_module(context.spec.task.module)
    task: Task = module.create(context)
    return task
