"""The proof of later steps: they must do what the same program does after a fresh load.

After the turns the program makes a few more steps. Each is held to its own moments. The weights
before one of them are then loaded afresh with the same batch first: the step from there must have
the same loss, the same gradient and the same running statistics. No oracle is needed, and any size
and precision will do. Four steps and one load; a program that does not repeat itself exactly makes
the step once more, and one that fails makes it on other batches, to name the cause. NumPy, the
contract and worker.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.contract.evidence import Check, ParityVerdict
from benchmarks.contract.optimizer import Optimizer
from benchmarks.contract.precision import PRECISIONS
from benchmarks.contract.program import Arrays, Program
from benchmarks.contract.task import Tolerance
from benchmarks.equivalence.checks import check, first_failure
from benchmarks.equivalence.norms import global_error, relative, tensor_errors, worst_tensor
from benchmarks.equivalence.own_update import (
    EXPLAINED,
    Sample,
    States,
    beyond,
    causes_of_update,
    common_factor,
    distance,
    gradient_rounding,
    gradients,
    listed,
    own_checks,
    own_errors,
    sample_of,
)
from benchmarks.equivalence.verdict import judge
from benchmarks.worker.context import LaunchContext, LaunchFailedError

NUM_CONTINUED = 3
"""Steps in a row: of programs that leave out every second or third update, one is caught."""
NUM_CONTINUED_HELD = 2
"""The same in a launch that is held to a proven one, where only what that one did not do is new."""
NOISE_FACTOR = 3.0
"""Multiple of the difference between two fresh steps that a continued one may have, if they differ:
a device's sums may come in another order each time."""
FLIPS = 5e-2
"""The same where the oracle's check has no tolerance: two fresh steps may agree by luck, and
rectifiers that flip in the third change a gradient by up to 1.8e-2 (ResNet-50)."""
COMPARED = {
    "continued_loss": "loss",
    "continued_gradient": "gradient",
    "continued_statistics": "statistics",
}
"""The checks against a fresh load, each with the oracle's check of the same numbers: its tolerance
applies to a program that does not repeat itself exactly."""
UNKNOWN = "cause unknown: later steps compute something else than the first step after a load"

SAME_LOSS = 1e-5
"""Relative difference of two losses that rounding may cause."""

Batch = Mapping[str, np.ndarray]


class Place(NamedTuple):
    """Where a program stands among its steps."""

    num_made: int
    """Steps since the last load."""
    first_batch: int
    """Index of the batch of the first of them."""


@dataclass(frozen=True)
class Step:
    """One step: its loss, its gradients, and the changes of the running statistics."""

    loss: float
    gradients: Mapping[str, np.ndarray]
    rounding: Mapping[str, float]
    """The norm of the error in each gradient that rounding of the moments causes."""
    statistics: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Continued:
    """The steps that a program made further."""

    states: Sequence[States]
    """Before the first step and after each."""
    chosen: Step
    earlier: Mapping[str, np.ndarray]
    """The gradients of the step before the chosen one."""
    index: int
    """The chosen step's place among these, from 0."""
    held: Arrays
    """Weights and running statistics before the chosen step."""


def prove_later_steps(
    context: LaunchContext, program: Program, read: Arrays, place: Place
) -> ParityVerdict:
    """The verdict on the steps that this program makes next; `read` is its state before them.

    Afterwards the program is freshly loaded and one step further.
    """
    optimizer = context.optimizer
    assert optimizer is not None, "the workload has no optimizer"
    return _Proof(context, program, optimizer, place).verdict(read)


class _Proof:
    def __init__(
        self, context: LaunchContext, program: Program, optimizer: Optimizer, place: Place
    ) -> None:
        self._context = context
        self._program = program
        self._optimizer = optimizer
        self._place = place
        self._tolerance = context.tolerance
        self._coarsest = PRECISIONS[context.launch.case.way.precision].stored_unit
        self._initial = context.initial()
        self._sample: Sample

    def verdict(self, read: Arrays) -> ParityVerdict:
        self._sample = sample_of(read, self._initial, seed=self._context.draw)
        done = self._continue(read)
        checks, causes = self._held_to_itself(done)
        if first_failure(checks) is None:
            again = self._again(done, self._batches_from(done))
            compared = self._compared(done.chosen, again)
            if first_failure(compared) is not None:
                compared = self._within_noise(done, again, compared)
            if first_failure(compared) is not None:
                causes = self._causes(done, again)
            checks += compared
        return judge(checks, causes=causes)

    def _continue(self, read: Arrays) -> Continued:
        """Make the steps; one of them is chosen by the parent's draw.

        Never the first, whose gradients are compared with the next one's, nor one on the batch of
        the first step after the load: programs that mix batches up mostly begin with the right one.
        """
        num_batches, made = len(self._context.batches()), self._place.num_made
        number = NUM_CONTINUED if self._context.proven is None else NUM_CONTINUED_HELD
        if (made + number - 1) % num_batches == 0:
            number = NUM_CONTINUED
        free = [i for i in range(1, number) if (made + i) % num_batches]
        index = free[self._context.draw % len(free)]
        states, steps = [self._sample.states(read)], []
        held: Arrays = {}
        for i in range(number):
            if i == index:
                held = self._held(read)
            loss = self._step("in a later step")
            read = self._program.read()
            states.append(self._sample.states(read))
            moved = _moves(held, read) if i == index else {}
            steps.append(self._made(loss, states[-2], states[-1], moved))
        return Continued(states, steps[index], steps[index - 1].gradients, index, held)

    def _held(self, read: Arrays) -> dict[str, np.ndarray]:
        """Copies of everything that a load takes and steps change."""
        found = {}
        for name in self._initial:
            for group in ("weights", "statistics"):
                if f"{group}/{name}" in read:
                    found[name] = np.array(read[f"{group}/{name}"])
        return found

    def _step(self, when: str) -> float:
        framework = self._context.framework
        loss = self._program.step()
        framework.wait(loss)
        value = float(framework.get(loss))
        if not math.isfinite(value):
            raise LaunchFailedError("nonfinite", f"not finite {when}, loss {value}")
        return value

    def _held_to_itself(self, done: Continued) -> tuple[list[Check], list[str]]:
        """The checks of the worst step against its own moments, and what explains a failure."""
        worst: dict[str, Check] = {}
        causes: list[str] = []
        for index, (before, after) in enumerate(zip(done.states, done.states[1:])):
            number = self._place.num_made + index + 1
            errors = own_errors(
                self._optimizer, before, after, number=number, coarsest=self._coarsest
            )
            found = list(own_checks(errors, self._tolerance, prefix="later"))
            for one in found:
                worst[one.name] = max(worst.get(one.name, one), one, key=_size)
            if first_failure(found) is not None:
                own = causes_of_update(self._optimizer, before, after, number=number)
                causes = [one for one in causes if one in own] or causes or own
        return list(worst.values()), causes

    def _batches_from(self, done: Continued) -> list[Batch]:
        """The canonical batches, beginning with the chosen step's."""
        batches = self._context.batches()
        begin = self._place.first_batch + self._place.num_made + done.index
        return [batches[(begin + i) % len(batches)] for i in range(len(batches))]

    def _again(self, done: Continued, batches: Sequence[Batch]) -> Step:
        """The step on the first of these batches from the held weights, freshly loaded."""
        self._program.load({**self._initial, **done.held})
        self._program.feed(batches)
        loss = self._step("in a step after a fresh load, on another batch than at first")
        read = self._program.read()
        before = self._sample.initial(done.held)
        return self._made(loss, before, self._sample.states(read), _moves(done.held, read))

    def _made(
        self, loss: float, before: States, after: States, moves: Mapping[str, np.ndarray]
    ) -> Step:
        found = gradients(self._optimizer, before, after)
        rounding = gradient_rounding(self._optimizer, before, after, coarsest=self._coarsest)
        return Step(loss, found, rounding, moves)

    def _compared(self, own: Step, again: Step) -> list[Check]:
        return list(_comparison(own, again, self._tolerance))

    def _within_noise(self, done: Continued, again: Step, checks: list[Check]) -> list[Check]:
        """The checks with tolerances that allow for a program which does not repeat itself."""
        once_more = self._again(done, self._batches_from(done))
        apart = _comparison(once_more, again, {})
        return [self._allowing(one, noise.error) for one, noise in zip(checks, apart)]

    def _allowing(self, one: Check, noise: float | None) -> Check:
        if one.tolerance is None or not noise:
            return one
        as_oracle = self._tolerance.get(COMPARED[one.name], FLIPS)
        allowed = max(one.tolerance, as_oracle, NOISE_FACTOR * noise)
        return dataclasses.replace(one, tolerance=allowed)

    def _causes(self, done: Continued, again: Step) -> list[str]:
        return (
            _in_the_gradients(done, again)
            or self._other_batches(done, again)
            or _in_the_state(done, again)
            or [UNKNOWN]
        )

    def _other_batches(self, done: Continued, again: Step) -> list[str]:
        """Whether the step was made on another batch, or on a part of its own."""
        usual = self._batches_from(done)
        suspects = [
            (f"it is made on the batch {i} places after its own: batches in another order", one)
            for i, one in enumerate(usual[1:], 1)
        ]
        suspects += [
            (f"it is made on a part of its batch: the {which} half", part)
            for which, part in zip(("first", "second"), _halves(usual[0]))
        ]
        for cause, batch in suspects:
            tried = self._again(done, [batch, *usual[1:]])
            if _explains(tried, done.chosen, again):
                return [cause]
        return []


def _size(one: Check) -> float:
    return math.inf if one.error is None else one.error


def _explains(tried: Step, own: Step, again: Step) -> bool:
    """Whether a step made in another way is this one, which the usual way is not."""
    return abs(tried.loss - own.loss) <= EXPLAINED * abs(again.loss - own.loss) and (
        _gap(own.gradients, tried.gradients) <= EXPLAINED * _gap(own.gradients, again.gradients)
    )


def _gap(own: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """|own - other| over all tensors together."""
    return math.sqrt(sum(float(np.square(own[name] - other[name]).sum()) for name in own))


def _moves(held: Arrays, read: Arrays) -> dict[str, np.ndarray]:
    """The changes of the running statistics."""
    return {
        name: read[f"statistics/{name}"].astype(np.float64) - held[name]
        for name in held
        if f"statistics/{name}" in read
    }


def _comparison(own: Step, again: Step, tolerance: Tolerance) -> Iterator[Check]:
    """The checks named in COMPARED, as far as there is something to compare."""
    loss, gradient, statistics = COMPARED
    yield check(loss, relative(own.loss, again.loss), tolerance.get(loss))
    rounding = {name: one + again.rounding[name] for name, one in own.rounding.items()}
    for name, mine, other, allowed in (
        (gradient, own.gradients, again.gradients, rounding),
        (statistics, own.statistics, again.statistics, dict.fromkeys(own.statistics, 0.0)),
    ):
        if other:
            errors = beyond(tensor_errors(mine.items(), other.items()), allowed)
            yield check(name, global_error(errors), tolerance.get(name), worst_tensor(errors))


def _in_the_gradients(done: Continued, again: Step) -> list[str]:
    """Mistakes that leave the loss and change the gradients."""
    own, right = done.chosen.gradients, again.gradients
    if relative(done.chosen.loss, again.loss) > SAME_LOSS:
        return []
    gone = [name for name in right if right[name].any() and not _matters(own[name], right[name])]
    if gone:
        return [f"no gradient reaches {listed(gone)}"]
    error = distance(own, right)
    summed = {name: right[name] + done.earlier[name] for name in right}
    if distance(own, summed) < EXPLAINED * error:
        return ["gradients are added up from step to step: they are never cleared (zero_grad)"]
    factor = common_factor(own, right)
    if factor is not None:
        return [
            f"the gradient enters the moments {factor:.4g} times: dampened momentum,"
            " or another scale of the loss"
        ]
    return []


def _matters(own: np.ndarray, right: np.ndarray) -> bool:
    return float(np.linalg.norm(own)) > 1e-3 * float(np.linalg.norm(right))


def _in_the_state(done: Continued, again: Step) -> list[str]:
    """A moment that decays at another rate: gradients off by a multiple of the moment."""
    before = done.states[done.index]
    own, right = done.chosen.gradients, again.gradients
    moments = {name: before[name].first for name in right}
    differences = {name: own[name] - right[name] for name in right}
    zero = {name: np.zeros_like(one) for name, one in right.items()}
    factor = common_factor(differences, moments, beside=zero)
    if factor is None:
        return []
    return [f"momentum: the first moment keeps {factor:+.3g} of itself too much in a step"]


def _halves(batch: Batch) -> Iterator[Batch]:
    """The batch with one half of its items in place of the other, if it has several."""
    num = len(next(iter(batch.values())))
    if num % 2:
        return
    for part in (slice(None, num // 2), slice(num // 2, None)):
        yield {name: np.concatenate([one[part], one[part]]) for name, one in batch.items()}
