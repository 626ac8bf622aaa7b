"""Steps that nothing looks at must do what the same steps do when each is read.

A program may do its work only where it is checked: in the step after a load, or after its arrays
were read. Such a program proves every step that is looked at. So a few steps are made in a row from
a fresh load, as in a turn, and once more with a read after each: both must end in the same state.
NumPy, the contract and worker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from benchmarks.contract.evidence import Check
from benchmarks.contract.program import Program
from benchmarks.equivalence.checks import check
from benchmarks.equivalence.norms import TensorError, global_error, tensor_errors, worst_tensor
from benchmarks.equivalence.own_update import Sample, States, sample_of
from benchmarks.equivalence.verdict import judge
from benchmarks.worker.context import LaunchContext
from benchmarks.worker.tasks.training.continuation import NOISE_FACTOR

MAX_STEPS = 8
"""Most steps in a row. The parent's draw decides how many, so that a program cannot know."""
TOLERANCE = 1e-3
"""Difference of the two states, relative to what the steps changed. One step of eight that is left
out is a hundred times that; a program that repeats itself exactly has none."""
CAUSE = "its steps do something else when they are not looked at: work is left out unless checked"


def prove_unread_steps(
    context: LaunchContext, program: Program, load: Callable[[], None], *, num_steps: int
) -> None:
    """LaunchFailedError if steps in a row, as in a turn of `num_steps`, lead to another state.

    `load` loads the canonical weights and batches afresh.
    """
    number = 2 + context.draw % min(max(1, num_steps), MAX_STEPS - 1)
    series = _Series(context, program, load, number)
    unread, read = series.end(is_read=False), series.end(is_read=True)
    found = series.check(unread, read, TOLERANCE)
    if not found.passes:
        noise = series.check(series.end(is_read=True), read, None).error
        if noise:
            allowed = max(TOLERANCE, NOISE_FACTOR * noise)
            found = dataclasses.replace(found, tolerance=allowed)
    verdict = judge([found], causes=[] if found.passes else [CAUSE])
    context.require_equal_work(verdict, when=f"in {number} steps in a row: ")


class _Series:
    """Steps from a fresh load."""

    def __init__(
        self, context: LaunchContext, program: Program, load: Callable[[], None], number: int
    ) -> None:
        self._context = context
        self._program = program
        self._load = load
        self._number = number
        self._sample: Sample | None = None

    def end(self, *, is_read: bool) -> States:
        """The state after the steps, with a read after each or after the last alone."""
        self._load()
        for _ in range(self._number - 1):
            outputs = self._program.step()
            if is_read:
                self._context.framework.wait(outputs)
                self._program.read()
        self._context.framework.wait(self._program.step())
        read = self._program.read()
        if self._sample is None:
            self._sample = sample_of(read, self._context.initial(), seed=self._context.draw)
        return self._sample.states(read)

    def check(self, own: States, right: States, tolerance: float | None) -> Check:
        """Whether two states are the same, relative to the change since the load."""
        assert self._sample is not None
        initial = self._sample.initial(self._context.initial())
        errors = _errors(initial, own, right)
        error = max(global_error(one) for one in errors)
        return check("unread_steps", error, tolerance, worst_tensor(errors[0]))


def _errors(initial: States, own: States, right: States) -> tuple[list[TensorError], ...]:
    """The errors of the weights' changes, and those of the first moments."""
    weights = tensor_errors(
        ((name, own[name].weight - one.weight) for name, one in initial.items()),
        ((name, right[name].weight - one.weight) for name, one in initial.items()),
    )
    moments = tensor_errors(
        ((name, own[name].first) for name in initial),
        ((name, right[name].first) for name in initial),
    )
    return weights, moments
