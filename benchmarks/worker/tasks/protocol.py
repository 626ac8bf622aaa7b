"""The interface between a launch and a kind of work: load it, time its steps, prove them.

A kind of work is a module with `create(context) -> Task`, which its `contract.task.TaskSpec` names.
Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from benchmarks.contract.evidence import UNPROVEN, Check, FirstStep, ParityVerdict, Proven
from benchmarks.contract.program import Arrays
from benchmarks.contract.record import DISTURBED
from benchmarks.contract.task import Tolerance
from benchmarks.equivalence.checks import check, first_failure
from benchmarks.equivalence.norms import relative
from benchmarks.equivalence.verdict import judge
from benchmarks.worker.context import LaunchContext, LaunchFailedError
from benchmarks.worker.other_load import OtherLoad
from benchmarks.worker.timing import BlockTime

PAUSE_S = 0.3
"""In it a tenth of two CPUs' time is six ticks of 10 ms, of which `OtherLoad` subtracts two."""
NO_ORACLE = "there is no oracle for this work"

NUMBERS = {
    "loss": "loss",
    "gradient_norm": "gradient_norm",
    "update_norm": "update_norm",
    "statistics_norm": "statistics",
    "answer_norm": "logits",
}
"""The numbers by which two first steps of one program are compared, each with its tolerance."""
AT_ANY_SIZE = 10.0
"""Multiple of a tolerance by which they may differ: tolerances were found at small sizes, and sums
may come in another order each time."""

CAUSES: Mapping[str, str] = {
    "gemm": "precision: TF32 or bf16 matmuls under the name of a finer precision",
    "convolution": "precision: TF32 or bf16 convolutions under the name of a finer precision",
    "reproduced": "state that `load` does not reset",
    "flop": "a layer or a backward pass is missing, or computed twice",
}
"""The likely mistake if step 1 agrees with the oracle and this check fails."""


class Task(Protocol):
    """One program of a kind of work: how it is loaded, timed and proven.

    If `LaunchContext.proven` is given, the launch is held to it, and proves for itself only what
    another launch of the same code could do in another way: its first step's numbers, and that its
    timed steps do the work.
    """

    program: Any
    """A `Program`, a `RequestProgram` or another type with `inspect`, as the kind of work needs."""
    steps_per_turn: int | None
    """Steps of each turn's block; None if their number follows from a block's length."""
    outputs: Any
    """The value that the last step returned."""

    def load(self) -> None:
        """Go through the phases that load weights and feed batches."""

    def time_steps(self, num_steps: int, *, steps_per_sample: int | None = None) -> BlockTime:
        """Time this many steps, as `time_block`; a request is always a sample by itself."""

    def step(self) -> Any:
        """Enqueue one step and return the values to wait for."""

    def read(self) -> Arrays:
        """The arrays that the program holds, as `Program.read`."""

    def prove_first(self) -> None:
        """Prove the step that was just made; LaunchFailedError if it is another than expected.

        Expected is the oracle's, or that of the launch to whose numbers this one is held.
        """

    def begin_turns(self) -> None:
        """Called between the warm-up and the first turn."""

    def keep(self, block: BlockTime, *, num_steps: int) -> None:
        """Remember a timed block."""

    def prove_end(self) -> None:
        """Prove that the timed steps did the work; LaunchFailedError if they did not."""

    def prove_all(self, checks: Sequence[Check]) -> ParityVerdict:
        """The verdict on these checks and on all others that are possible; nothing is timed.

        Goes through the phases itself. If the request names a folder to keep, this program holds
        the oracle: its results are written there.
        """


def final_verdict(
    verdict: ParityVerdict | None, checks: Sequence[Check], causes: Mapping[str, str]
) -> ParityVerdict:
    """The verdict of a whole proof, from the first step's verdict and from all checks.

    The causes are the first step's if it differs, else `causes` of the first failure. A program
    that computes the oracle has no verdict: there is nothing to compare it with.
    """
    if verdict is None:
        return ParityVerdict(UNPROVEN, tuple(checks), reason="this program computes the oracle")
    failed, known = first_failure(checks), {**CAUSES, **causes}
    told = [known[failed.name]] if failed is not None and failed.name in known else []
    return judge(
        checks,
        oracle=verdict.oracle,
        first_difference=verdict.first_difference,
        causes=verdict.causes or told,
    )


def held_to(
    proven: Proven, first: FirstStep, tolerance: Tolerance, *, limit: float | None
) -> ParityVerdict:
    """The verdict on a launch's first step: the proven launch's if it has the same numbers.

    Each may differ by `limit` at most, and by less if its tolerance is far less.
    """
    checks = {
        name: check("as_proven", math.inf if None in pair else relative(*pair), allowed)
        for name, own in NUMBERS.items()
        if (pair := (getattr(first, name), getattr(proven.step1, name))) != (None, None)
        for allowed in [limit and min(limit, AT_ANY_SIZE * tolerance.get(own, math.inf))]
    }
    failed = [name for name, one in checks.items() if not one.passes]
    worst = max(failed or checks, key=lambda name: checks[name].error or 0.0)
    found = checks[worst]
    if found.passes:
        return dataclasses.replace(proven.parity, checks=(found,))
    cause = (
        f"this launch does other work than {proven.launch_id}: its {worst.replace('_', ' ')} is"
        f" {getattr(first, worst)}, expected {getattr(proven.step1, worst)}"
    )
    return judge([found], oracle=proven.parity.oracle, causes=[cause])


def pause() -> None:
    """Wait before durations are compared once more: a short load passes, and a longer one is seen.

    `OtherLoad` sees nothing within a few ticks of the clock, which are many short requests.
    """
    time.sleep(PAUSE_S)


def require_share(context: LaunchContext, share: float, *, least: float, load: OtherLoad) -> None:
    """LaunchFailedError if this share, of a checked step's time, is too small for timed steps.

    `load` is that of the time in which the checked step was timed.
    """
    context.evidence.share_of_audit = share
    if share < least:
        fail_unless_disturbed(
            context,
            f"the timed steps took {share:.0%} of the time of a step that was checked"
            f" (at least {least:.0%} expected): they skipped work",
            load=load,
        )


def fail_unless_disturbed(context: LaunchContext, seen: str, *, load: OtherLoad) -> None:
    """LaunchFailedError: durations show that work is left out, unless other load explains them.

    A short step gets a processor for itself where a long block shares it, and what is timed in
    quiet is faster than what is timed later. Where load explains them, a launch that is held to a
    proven one passes: that one has shown, with the same code, that no work is left out.
    """
    if load.disturbs is not False:
        if context.proven is not None:
            return
        raise LaunchFailedError(DISTURBED, f"{load}, so that it says nothing that {seen}")
    raise LaunchFailedError("invalid_work", seen)


def create(context: LaunchContext) -> Task:
    """The task of a launch's kind of work; its program is built and not loaded."""
    context.enter("build")
    module = importlib.import_module(context.spec.task.module)
    task: Task = module.create(context)
    return task
