"""Causes in the gradients of a step whose loss is right: decay, factors, the backward pass.

NumPy and the contract only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from benchmarks.equivalence.norms import TensorError, global_norm, share_of, tensor_errors
from benchmarks.equivalence.trace import Trace, common_factor, listed

FAR = 100
"""A gradient whose error is this many times its tolerance, while the loss is right, shows a mistake
in the backward pass: from a nearer one, a mistake in the forward pass may hide in the loss."""
LIKE = 1e-3
"""Largest relative difference between a found number and the known one that it counts as."""


def exact(trace: Trace) -> list[str]:
    """The mistakes that explain the gradients exactly: a decay, or a factor."""
    off = _off(trace)
    return _decay(trace, off) or _factors(trace, off) if off else [*_decay_within_rounding(trace)]


def located(trace: Trace) -> Iterator[str]:
    """The first gradient of the backward pass that is far off."""
    limit = trace.tolerance.get("gradient_tensor", math.inf)
    if any(not error.relative <= FAR * limit for error in trace.errors.gradients):
        last = _off(trace)[-1]  # the backward pass begins at the last layer
        yield f"the backward pass: the gradient of {last.name} is the first of it to be off"


def _off(trace: Trace) -> list[TensorError]:
    limit = trace.tolerance.get("gradient_tensor", math.inf)
    return [error for error in trace.errors.gradients if not error.relative <= limit]


def _decay(trace: Trace, off: Sequence[TensorError]) -> list[str]:
    """Missing or unwanted weight decay: gradients that are off by a multiple of the weights."""
    pairs = zip(
        trace.spec.gradients(trace.initial, trace.read),
        trace.spec.gradients(trace.initial, trace.oracle),
    )
    names = {error.name for error in off}
    found: dict[float, list[str]] = {}
    differences = ((name, own - right) for (name, own), (_, right) in pairs if name in names)
    for name, share in _shares_of_weight(trace, differences):
        found.setdefault(float(f"{share:.2g}"), []).append(name)
    named = [decay_text(share, listed(of_share)) for share, of_share in found.items()]
    return named if sum(map(len, found.values())) == len(off) else []


def _decay_within_rounding(trace: Trace) -> Iterator[str]:
    """Weight decay that rounding hides in each gradient, found in the median over many."""
    for kind, share in trace.errors.decay.items():
        if abs(share) > trace.limit("decay"):
            yield decay_text(share, f"the {kind} of most layers")


def decay_text(share: float, what: str) -> str:
    """The weight decay of this share of the weights that is missing (below 0) or unwanted."""
    word = "is missing on" if share < 0 else "is applied to"
    return f"weight decay {word} {what} ({abs(share):.2g} of the weight)"


def _shares_of_weight(
    trace: Trace, differences: Iterable[tuple[str, np.ndarray]]
) -> Iterator[tuple[str, float]]:
    """(name, multiple) of each tensor whose difference is a multiple of its weight."""
    for name, array in differences:
        difference = np.asarray(array, np.float64).ravel()
        if not np.isfinite(difference).all():
            continue
        weight = np.asarray(trace.initial[name], np.float64).ravel()
        share = share_of(weight, difference)
        if share is None:
            continue
        if np.linalg.norm(difference - share * weight) < 0.1 * np.linalg.norm(difference):
            yield name, share


def _factors(trace: Trace, off: Sequence[TensorError]) -> list[str]:
    """A common factor on gradients, or on the optimizer's state."""
    names = [error.name for error in off]
    kept = tensor_errors(
        ((name, trace.read[f"optimizer/{name}"]) for name in names),
        ((name, trace.oracle[f"optimizer/{name}"]) for name in names),
    )
    factor = common_factor(off) or common_factor(kept)
    if factor is None:
        return []
    if len(off) < len(trace.errors.gradients):
        return [f"the gradient of {listed(names)} is {factor:.4g} times the expected one"]
    why = _reason_of_factor(trace, factor)
    return [f"every gradient is {factor:.4g} times the expected one" + (f": {why}" if why else "")]


def _reason_of_factor(trace: Trace, factor: float) -> str | None:
    """What makes every gradient this many times as large."""
    constants, second = trace.spec.hyperparameters, trace.errors.second_moments
    if second and not _is_near(common_factor(second), factor**2):
        return f"beta1 of Adam is {1 - factor * (1 - constants['beta1']):.3g}"
    if _is_near(1 - constants.get("momentum", math.nan), factor):
        return "dampened momentum"
    norm = global_norm(trace.errors.gradients)
    if factor < 1 and _is_near(float(f"{norm:.1g}"), norm):
        return f"clipped to a norm of {norm:.1g}"
    work = trace.suspects.work
    if work is not None:
        for count in (work.batch_size, trace.spec.items_per_step(work)):
            if _is_near(count, factor):
                return f"the loss's gradient is a sum over {count} items in place of their mean"
    if _is_near(2.0 ** round(math.log2(factor)) if factor > 0 else None, factor):
        return "loss scale"
    return None


def _is_near(value: float | None, expected: float) -> bool:
    return value is not None and abs(value - expected) <= LIKE * abs(expected)
