"""A program held to itself: its weights' changes against its own moments, step by step.

No oracle is needed, and rounding hardly matters: the moments are the program's own. NumPy and the
contract only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.evidence import Check
from benchmarks.contract.optimizer import Optimizer, State
from benchmarks.contract.program import Arrays
from benchmarks.contract.task import Tolerance
from benchmarks.equivalence.checks import check
from benchmarks.equivalence.norms import (
    TensorError,
    global_error,
    share_of,
    tensor_errors,
    weighed,
    worst_tensor,
)

MAX_ELEMENTS = 2**14
"""Elements of each tensor that are looked at: evenly spread, in a larger tensor not all."""
MAX_TOTAL = 2**28
"""If the parameters have more elements, only every 8th tensor is fetched."""
ONE_OF = 8
LARGE = 5e-2
"""Relative error of second moments that no rounding causes."""
EXPLAINED = 0.1
"""Largest share of a difference that a cause may leave unexplained."""

States = Mapping[str, State]
"""Parameters by name, each as its sampled elements."""


@dataclass(frozen=True)
class Sample:
    """The parameters and elements that are looked at; `seed` moves them."""

    names: tuple[str, ...]
    seed: int

    def states(self, read: Arrays) -> dict[str, State]:
        """The sampled elements of what `Program.read` returned, as copies."""
        return {name: self._state(name, read) for name in self.names}

    def initial(self, weights: Arrays) -> dict[str, State]:
        """The states before step 1 from these weights: the moments are 0."""
        found = {}
        for name in self.names:
            weight = self._elements(weights[name])
            zero = np.zeros_like(weight)
            found[name] = State(weight, zero, zero)
        return found

    def _state(self, name: str, read: Arrays) -> State:
        second = f"second_moment/{name}"
        return State(
            self._elements(read[f"weights/{name}"]),
            self._elements(read[f"optimizer/{name}"]),
            self._elements(read[second]) if second in read else None,
        )

    def _elements(self, array: np.ndarray) -> np.ndarray:
        array = np.asarray(array)
        stride = -(-array.size // MAX_ELEMENTS)
        stride += stride > 1 and stride % 2 == 0  # odd: it meets every column of an even width
        # `flat` copies what is chosen alone, where `reshape` copies a transposed array whole.
        return array.flat[self.seed % stride :: stride].astype(np.float64)


def sample_of(read: Arrays, initial: Arrays, *, seed: int) -> Sample:
    """All trained parameters, or if they are very large some of each kind."""
    trained = [name for name in initial if f"optimizer/{name}" in read]
    if sum(initial[name].size for name in trained) <= MAX_TOTAL:
        return Sample(tuple(trained), seed)
    order = {name: i for i, name in enumerate(trained)}
    firsts = {name.rpartition("/")[2]: name for name in reversed(trained)}.values()
    chosen = {*firsts, *trained[seed % ONE_OF :: ONE_OF]}
    return Sample(tuple(sorted(chosen, key=order.__getitem__)), seed)


def rounding_unit(array: np.ndarray, coarsest: float = math.inf) -> float:
    """The relative spacing of the numbers that these float64 values were stored as.

    Values that fit into bfloat16 or float32 were stored so; `coarsest` is the spacing in which they
    may be stored, so that a program which rounds more than it says is allowed no more for it.
    """
    narrow = array.astype(np.float32)
    if not np.array_equal(narrow, array):
        return min(coarsest, float(np.finfo(np.float64).eps))
    is_bf16 = not (narrow.view(np.uint32) & 0xFFFF).any()
    return min(coarsest, 2.0**-7 if is_bf16 and narrow.any() else float(np.finfo(np.float32).eps))


def beyond(errors: Sequence[TensorError], allowed: Mapping[str, float]) -> list[TensorError]:
    """These errors, each less the norm that rounding may have caused; NaN and infinity remain."""

    def rest(difference: float, part: float) -> float:
        return max(0.0, difference - part) if math.isfinite(difference - part) else math.inf

    return [
        dataclasses.replace(one, difference=rest(one.difference, allowed[one.name]))
        for one in errors
    ]


@dataclass(frozen=True)
class OwnErrors:
    """The differences between a step and what follows from its own moments."""

    updates: list[TensorError]
    second_moments: list[TensorError]


def own_errors(
    optimizer: Optimizer,
    before: States,
    after: States,
    *,
    number: int,
    coarsest: float = math.inf,
) -> OwnErrors:
    """The differences of step `number` (from 1) from what its moments say.

    What rounding of the stored weights explains is no difference: late in a training the updates
    are little more than that.
    """
    expected = changes(optimizer, before, after, number=number)
    rounding = {
        name: rounding_unit(one.weight, coarsest) * float(np.linalg.norm(one.weight))
        for name, one in after.items()
    }
    seconds = {
        name: second
        for name in before
        if after[name].second is not None
        and (second := optimizer.second_moment(name, before[name], after[name])) is not None
    }
    return OwnErrors(
        beyond(tensor_errors(made_changes(before, after).items(), expected.items()), rounding),
        tensor_errors(((name, _second(after[name])) for name in seconds), seconds.items()),
    )


def own_checks(errors: OwnErrors, tolerance: Tolerance, *, prefix: str = "own") -> Iterator[Check]:
    """The checks of a step against its own moments."""
    worst = worst_tensor(errors.updates)
    name = f"{prefix}_update"
    yield check(name, global_error(errors.updates), tolerance.get("own_update"), worst)
    if worst is not None:
        limit = tolerance.get("own_update_tensor")
        yield check(f"{name}_tensor", weighed(worst, errors.updates), limit, worst)
    if errors.second_moments:
        yield check(
            f"{prefix}_second_moment",
            global_error(errors.second_moments),
            tolerance.get("own_second_moment"),
            worst_tensor(errors.second_moments),
        )


def changes(
    optimizer: Optimizer, before: States, after: States, *, number: int
) -> dict[str, np.ndarray]:
    """The changes of the weights that follow from the moments after a step."""
    return {
        name: optimizer.change(name, before[name], after[name], number=number) for name in before
    }


def made_changes(before: States, after: States) -> dict[str, np.ndarray]:
    """The changes of the weights that a step has made."""
    return {name: after[name].weight - before[name].weight for name in before}


def gradient_rounding(
    optimizer: Optimizer, before: States, after: States, *, coarsest: float
) -> dict[str, float]:
    """The norm of the error that rounding of the stored moments causes in each gradient."""
    return {
        name: rounding_unit(after[name].first, coarsest)
        * float(np.linalg.norm(before[name].first) + np.linalg.norm(after[name].first))
        / optimizer.gain
        for name in before
    }


def gradients(optimizer: Optimizer, before: States, after: States) -> dict[str, np.ndarray]:
    """The gradients that a step has put into the first moments."""
    return {name: optimizer.gradient(name, before[name], after[name]) for name in before}


def causes_of_update(
    optimizer: Optimizer, before: States, after: States, *, number: int
) -> list[str]:
    """The mistakes that explain an update which does not follow from its moments."""
    made = made_changes(before, after)
    expected = changes(optimizer, before, after, number=number)
    still = [name for name, change in made.items() if not change.any() and expected[name].any()]
    is_idle = all(np.array_equal(before[name].first, after[name].first) for name in before)
    if is_idle and number > 1:
        what = "nothing" if len(still) == len(before) else "the weights and not the moments"
        return [f"a step changes {what}: its work is left out"]
    errors = own_errors(optimizer, before, after, number=number)
    if global_error(errors.second_moments) > LARGE:
        return ["the second moment does not follow from its gradients: another beta2"]
    if still:
        return [_unmoved(still, before)]
    error = distance(made, expected)
    found = [
        mistake
        for mistake, wrong in optimizer.mistakes().items()
        if distance(made, changes(wrong, before, after, number=number)) < EXPLAINED * error
    ]
    return found or _decay(before, made, expected) or _rate(made, expected)


def distance(own: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> float:
    """|own - right| / |right| over all tensors together."""
    return global_error(tensor_errors(own.items(), right.items()))


def listed(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def _second(state: State) -> np.ndarray:
    assert state.second is not None
    return state.second


def _unmoved(still: Sequence[str], before: States) -> str:
    if len(still) < len(before):
        return f"the step does not update {listed(still)}"
    return "a step changes the moments and not the weights: its update is left out"


def _decay(
    before: States, made: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> list[str]:
    """Weight decay that is missing or not wanted: changes off by a multiple of the weights."""
    off: dict[str, float] = {}
    square, remaining = 0.0, 0.0
    for name, change in made.items():
        difference = change - expected[name]
        share = share_of(before[name].weight, difference) or 0.0
        left = difference - share * before[name].weight
        own, unexplained = float(difference @ difference), float(left @ left)
        if unexplained < EXPLAINED**2 * own:
            off[name] = share
        square += own
        remaining += unexplained if name in off else own
    if not off or remaining > EXPLAINED**2 * square:
        return []
    names = sorted(off, key=lambda name: -abs(off[name]))
    share = off[names[0]]
    word = "is missing on" if share > 0 else "is applied to"
    return [f"weight decay {word} {listed(names)} ({abs(share):.2g} of the weight in a step)"]


def _rate(made: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> list[str]:
    factor = common_factor(made, expected)
    if factor is None or f"{factor:.4g}" == "1":
        return []
    return [f"learning rate: the weights move {factor:.4g} times as far as their moments say"]


def common_factor(
    own: Mapping[str, np.ndarray],
    right: Mapping[str, np.ndarray],
    *,
    beside: Mapping[str, np.ndarray] | None = None,
) -> float | None:
    """The factor on all of these tensors that makes them `own`, or None.

    It must explain the difference from `beside`, which is `right` itself if nothing is given.
    """
    square = sum(float(one @ one) for one in right.values())
    if not square:
        return None
    factor = sum(float(own[name] @ one) for name, one in right.items()) / square
    left, error = 0.0, 0.0
    for name, one in right.items():
        rest, whole = own[name] - factor * one, own[name] - (beside or right)[name]
        left, error = left + float(rest @ rest), error + float(whole @ whole)
    return factor if left < EXPLAINED**2 * error else None
