"""The checks of equal work: a program's arrays against the oracle's, each with its tolerance.

Tolerances come from the spec, by precision and check. A check without one is shown and not judged.
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
"""Share of the analytic FLOP that a framework's own count may lack. A count may be higher, since it
may include elementwise operations and padding. A lower count means skipped work: a stage, a
backward pass, or the stride at v1's place (5 %) if only matmuls and convolutions are counted."""

GROUPS = ("optimizer", "weights")
"""The prefixes under which `Program.read` has each parameter."""

REQUIRED = ("loss", "gradient_norm", "cosine", "update_norm")
"""Checks that must have a tolerance in training: the loss, the gradient's norm and direction, the
update's norm."""
REQUIRED_OF_ANSWERS = ("logits", "logits_worst")
"""Checks that must have a tolerance in inference."""


def check(
    name: str, error: float, tolerance: float | None, worst: TensorError | None = None
) -> Check:
    """The check of this name; its error is None if it is not finite."""
    value = float(error) if math.isfinite(error) else None
    return Check(name, value, tolerance, worst.name if worst else None)


def first_failure(checks: Iterable[Check]) -> Check | None:
    """The first check that does not pass, or None."""
    return next((one for one in checks if not one.passes), None)


@dataclass(frozen=True)
class StepErrors:
    """Step 1's differences from the oracle's, by tensor, in the order of the forward pass."""

    loss: float
    """Relative error of the loss."""
    gradients: list[TensorError]
    updates: list[TensorError]
    statistics: list[TensorError]
    """Errors of the changes that the step made to the running statistics."""
    unchanged: list[str]
    """Parameters that the step left exactly as they were."""
    decay: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """By kind of parameter (kernel, scale, bias), the multiple of the weights by which gradients
    are off, as the median over the tensors: above rounding, an unwanted weight decay. It is more
    exact than the gradients themselves, since rounding errors do not correlate with the weights."""
    decoupled_decay: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The same for the updates, if the optimizer applies decoupled weight decay (AdamW)."""
    second_moments: list[TensorError] = dataclasses.field(default_factory=list)
    """Errors of the second moments, if the optimizer keeps them."""


def mismatches(read: Arrays, oracle: Arrays) -> list[str]:
    """The arrays that only the program or only the oracle has, or that differ in shape."""
    names = sorted(set(read) ^ set(oracle))
    shapes = [name for name in oracle if name in read and read[name].shape != oracle[name].shape]
    return names + shapes


def step_errors(spec: WorkloadSpec, initial: Arrays, read: Arrays, oracle: Arrays) -> StepErrors:
    """The differences between step 1 and the oracle's; both have the same arrays."""
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
    """The errors of one parameter's gradient and update."""

    gradient: TensorError
    update: TensorError
    share_in_gradient: float | None
    """The multiple of the weight by which the gradient is off; None if the weight is 0."""
    share_in_update: float | None
    """The multiple of the weight by which the update is off; None if the weight is 0."""


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
    """A block of a parameter's gradient, from the same block of its weight and optimizer state."""
    ((_, gradient),) = spec.gradients({name: weight}, {f"optimizer/{name}": state})
    return gradient


def step_checks(
    errors: StepErrors, tolerance: Tolerance, *, stable: Sequence[str] = ()
) -> list[Check]:
    """The checks of step 1; those that locate a fault best come first."""
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
    """The required checks that have no tolerance; without one, nothing is proven."""
    required = (*REQUIRED, *REQUIRED_OF_ANSWERS)
    return [one.name for one in checks if one.name in required and one.tolerance is None]


def _statistics_checks(errors: Sequence[TensorError], tolerance: Tolerance) -> Iterator[Check]:
    """The checks of the first layer's running statistics, not yet amplified, and of all layers'."""
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
    """The check of the losses of ten consecutive steps."""
    assert len(losses) == len(expected), "an oracle with another number of steps"
    worst = max(relative(a, b) for a, b in zip(losses, expected))
    return check("losses", worst, tolerance.get("losses"))


def state_check(name: str, states: Arrays, expected: Arrays, tolerance: Tolerance) -> Check:
    """The check of the optimizer's state after ten steps, by the names of the parameters."""
    own = ((one, states.get(one, np.full_like(right, np.nan))) for one, right in expected.items())
    return _global_check(name, tensor_errors(own, expected.items()), tolerance)


def frozen_checks(initial: Arrays, read: Arrays, *, name: str = "frozen") -> list[Check]:
    """The check that frozen weights still equal the initial ones, bit by bit.

    Empty if there are no frozen weights.
    """
    frozen = [one for one in initial if f"frozen/{one}" in read]
    changed = [one for one in frozen if not np.array_equal(initial[one], read[f"frozen/{one}"])]
    if not frozen:
        return []
    return [Check(name, float(len(changed)), 0.0, next(iter(changed), None))]


INTEGER_TOLERANCE = 0.1
"""Share of a quantised model's convolutions and matmuls that may be in floating point."""


def flop_check(own: int, analytic: int) -> Check:
    """The check that the framework's own FLOP count of a step is not below the analytic one."""
    return check("flop", max(0.0, 1.0 - own / analytic), FLOP_TOLERANCE)


def integer_checks(effective: Effective | None, *, precision: str) -> Iterator[Check]:
    """In int8, the check that a model's convolutions and matmuls are computed in integers.

    A model that does not report it fails too, since it is unknown what was measured.
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
    """The changes that the step made to these running statistics."""
    for name in names:
        yield name, read[f"statistics/{name}"] - np.asarray(initial[name], np.float64)
