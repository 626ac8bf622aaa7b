"""The checks of equal work: what a program read against the oracle, with each one's tolerance.

A tolerance is the spec's, by precision and check; a check without one is shown and not judged.
NumPy and the contract only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.evidence import Check
from benchmarks.contract.precision import PRECISIONS
from benchmarks.contract.program import Arrays, Effective
from benchmarks.contract.task import Tolerance
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.equivalence.norms import (
    Sums,
    TensorError,
    angle,
    global_error,
    in_blocks,
    norm_error,
    relative,
    tensor_errors,
    weighed,
    worst_tensor,
)

FLOP_TOLERANCE = 0.02
"""Share of the analytic FLOP that a framework's own count may lack. It may have more: elementwise
operations are in it, and padding counts as work. What it lacks was left out: a stage, a backward
pass, and, where nothing else is counted, the stride that v1 has elsewhere (5 %)."""

GROUPS = ("optimizer", "weights")
"""What `Program.read` has of each parameter."""

REQUIRED = ("loss", "gradient_norm", "cosine", "update_norm")
"""Checks without which nothing is proven: the loss, and length and direction of the gradient."""
REQUIRED_OF_ANSWERS = ("logits", "logits_worst")
"""The same of inference."""


def check(
    name: str, error: float, tolerance: float | None, worst: TensorError | None = None
) -> Check:
    """The check of this name, its error None where it is not finite."""
    value = float(error) if math.isfinite(error) else None
    return Check(name, value, tolerance, worst.name if worst else None)


def first_failure(checks: Iterable[Check]) -> Check | None:
    """The first check that does not pass, or None."""
    return next((one for one in checks if not one.passes), None)


@dataclass(frozen=True)
class StepErrors:
    """Step 1 beside the oracle's, tensor by tensor, in the order of the forward pass."""

    loss: float
    """Relative."""
    gradients: list[TensorError]
    updates: list[TensorError]
    statistics: list[TensorError]
    """Of what the step added to the running statistics."""
    unchanged: list[str]
    """Parameters that the step left exactly as they were."""
    decay: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """By kind of parameter (kernel, scale, bias), the multiple of the weights by which gradients
    are off, the median over its tensors: a weight decay too much, where it is not rounding. It is
    exact where the gradients themselves are not, since rounding knows nothing of the weights."""
    decoupled_decay: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The same of the updates, where the optimizer decays weights past its moments (AdamW)."""
    second_moments: list[TensorError] = dataclasses.field(default_factory=list)
    """Of optimizers that keep one."""


def mismatches(read: Arrays, oracle: Arrays) -> list[str]:
    """What a program holds and the oracle does not, or the other way, or in another shape."""
    names = sorted(set(read) ^ set(oracle))
    shapes = [name for name in oracle if name in read and read[name].shape != oracle[name].shape]
    return names + shapes


def step_errors(spec: WorkloadSpec, initial: Arrays, read: Arrays, oracle: Arrays) -> StepErrors:
    """How far step 1 from the initial weights is from the oracle's; both have the same arrays."""
    parameters = [name for name in initial if f"optimizer/{name}" in oracle]
    statistics = [name for name in initial if f"statistics/{name}" in oracle]
    moments = [name for name in parameters if f"second_moment/{name}" in oracle]
    found = [_parameter_errors(spec, name, initial, read, oracle) for name in parameters]
    return StepErrors(
        loss=relative(float(read["loss"]), float(oracle["loss"])),
        gradients=[one.gradient for one in found],
        updates=[one.update for one in found],
        statistics=tensor_errors(
            _changes(statistics, initial, read), _changes(statistics, initial, oracle)
        ),
        unchanged=[n for n in parameters if np.array_equal(initial[n], read[f"weights/{n}"])],
        decay=_decay((one.gradient.name, one.share_in_gradient) for one in found),
        decoupled_decay=_decay(
            (one.update.name, one.share_in_update) for one in found if one.update.name in moments
        ),
        second_moments=tensor_errors(
            ((name, read[f"second_moment/{name}"]) for name in moments),
            ((name, oracle[f"second_moment/{name}"]) for name in moments),
        ),
    )


@dataclass(frozen=True)
class _ParameterErrors:
    """One parameter's."""

    gradient: TensorError
    update: TensorError
    share_in_gradient: float | None
    """The multiple of the weight by which the gradient is off; None where the weight is 0."""
    share_in_update: float | None


def _parameter_errors(
    spec: WorkloadSpec, name: str, initial: Arrays, read: Arrays, oracle: Arrays
) -> _ParameterErrors:
    gradient, update = Sums(), Sums()
    in_gradient, in_update, square = 0.0, 0.0, 0.0
    pairs = (arrays[f"{group}/{name}"] for group in GROUPS for arrays in (read, oracle))
    for weight, state, right_state, new, right_new in in_blocks(initial[name], *pairs):
        own, right = (
            gradient_block(spec, name, weight=weight, state=one) for one in (state, right_state)
        )
        in_gradient += float(gradient.add(own, right) @ weight)
        in_update += float(update.add(new - weight, right_new - weight) @ weight)
        square += float(weight @ weight)
    return _ParameterErrors(
        gradient.error(name),
        update.error(name),
        share_in_gradient=in_gradient / square if square else None,
        share_in_update=in_update / square if square else None,
    )


def _decay(found: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """The median share by kind of parameter; see `StepErrors.decay`."""
    shares: dict[str, list[float]] = {}
    for name, share in found:
        if share is not None:
            shares.setdefault(name.rpartition("/")[2], []).append(share)
    return {kind: float(np.median(values)) for kind, values in shares.items()}


def gradient_block(
    spec: WorkloadSpec, name: str, *, weight: np.ndarray, state: np.ndarray
) -> np.ndarray:
    """A block of a parameter's gradient, from those of its initial values and optimizer's state."""
    ((_, gradient),) = spec.gradients({name: weight}, {f"optimizer/{name}": state})
    return gradient


def step_checks(
    errors: StepErrors, tolerance: Tolerance, *, stable: Sequence[str] = ()
) -> list[Check]:
    """The checks of step 1, those that localise a fault first."""
    checks = [
        Check("changed", float(len(errors.unchanged)), 0.0, next(iter(errors.unchanged), None)),
        check("loss", errors.loss, tolerance.get("loss")),
    ]
    if errors.statistics:
        checks += _statistics_checks(errors.statistics, tolerance)
    if errors.gradients:
        checks += _gradient_checks(errors.gradients, tolerance, stable)
        if errors.second_moments:
            checks.append(_global_check("second_moment", errors.second_moments, tolerance))
        checks.append(_global_check("update", errors.updates, tolerance))
        checks.append(
            check("update_norm", norm_error(errors.updates), tolerance.get("update_norm"))
        )
    for name, shares in (("decay", errors.decay), ("decoupled_decay", errors.decoupled_decay)):
        if shares:
            worst_share = max(map(abs, shares.values()), key=_unless_finite)
            checks.append(check(name, worst_share, tolerance.get(name)))
    return checks


def _global_check(name: str, errors: Sequence[TensorError], tolerance: Tolerance) -> Check:
    return check(name, global_error(errors), tolerance.get(name), worst_tensor(errors))


def _unless_finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def not_judged(checks: Iterable[Check]) -> list[str]:
    """The required checks that have no tolerance: without them nothing is proven."""
    required = (*REQUIRED, *REQUIRED_OF_ANSWERS)
    return [one.name for one in checks if one.name in required and one.tolerance is None]


def _statistics_checks(errors: Sequence[TensorError], tolerance: Tolerance) -> Iterator[Check]:
    """All running statistics, and those of the first layer, which nothing has amplified yet."""
    first = errors[0].name.rpartition("/")[0]
    layer = [error for error in errors if error.name.rpartition("/")[0] == first]
    yield check(
        "first_layer", global_error(layer), tolerance.get("first_layer"), worst_tensor(layer)
    )
    yield _global_check("statistics", errors, tolerance)


def _gradient_checks(
    errors: Sequence[TensorError], tolerance: Tolerance, stable: Sequence[str]
) -> Iterator[Check]:
    worst = worst_tensor(errors)
    assert worst is not None
    yield check("gradient", global_error(errors), tolerance.get("gradient"), worst)
    yield check("cosine", angle(errors), tolerance.get("cosine"))
    yield check("gradient_norm", norm_error(errors), tolerance.get("gradient_norm"))
    tensor = weighed(worst, errors)
    yield check("gradient_tensor", tensor, tolerance.get("gradient_tensor"), worst)
    chosen = [error for error in errors if error.name in stable]
    if chosen:
        yield check(
            "stable_gradient",
            global_error(chosen),
            tolerance.get("stable_gradient"),
            worst_tensor(chosen),
        )


def trajectory_check(
    losses: Sequence[float], expected: Sequence[float], tolerance: Tolerance
) -> Check:
    """The losses of the followed steps."""
    assert len(losses) == len(expected), "an oracle of another number of steps"
    worst = max(relative(a, b) for a, b in zip(losses, expected))
    return check("losses", worst, tolerance.get("losses"))


def state_check(name: str, states: Arrays, expected: Arrays, tolerance: Tolerance) -> Check:
    """The optimizer's state after the followed steps, by the names of the parameters."""
    own = ((one, states.get(one, np.full_like(right, np.nan))) for one, right in expected.items())
    return _global_check(name, tensor_errors(own, expected.items()), tolerance)


def frozen_checks(initial: Arrays, read: Arrays, *, name: str = "frozen") -> list[Check]:
    """Whether the weights that are not trained are still the initial ones, bit by bit.

    One check, or none where there are no such weights.
    """
    frozen = [one for one in initial if f"frozen/{one}" in read]
    changed = [one for one in frozen if not np.array_equal(initial[one], read[f"frozen/{one}"])]
    if not frozen:
        return []
    return [Check(name, float(len(changed)), 0.0, next(iter(changed), None))]


INTEGER_TOLERANCE = 0.1
"""Share of a quantised model's convolutions and products that may be of floats."""


def flop_check(own: int, analytic: int) -> Check:
    """What the framework's own count of a step's FLOP lacks of the analytic one."""
    return check("flop", max(0.0, 1.0 - own / analytic), FLOP_TOLERANCE)


def integer_checks(effective: Effective | None, *, precision: str) -> Iterator[Check]:
    """What the products of integers of a model in int8 lack of all of its products.

    A model that does not tell fails too: nobody knows then what was measured.
    """
    if not PRECISIONS[precision].is_quantised:
        return
    num_integer, num_all = (effective and effective.integer_products) or (0, 0)
    if num_all:
        yield check("integer", 1.0 - num_integer / num_all, INTEGER_TOLERANCE)
    else:
        yield check("untold", 1.0, 0.0)


def _changes(
    names: Sequence[str], initial: Arrays, read: Arrays
) -> Iterator[tuple[str, np.ndarray]]:
    """What the step added to these running statistics."""
    for name in names:
        yield name, read[f"statistics/{name}"] - np.asarray(initial[name], np.float64)
