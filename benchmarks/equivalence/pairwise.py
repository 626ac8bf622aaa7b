"""Whether two implementations computed the same first step, if there is no oracle.

The evidence comes from the timed programs: loss and global norms of step 1, from the canonical
weights on the canonical batch. They are judged by the spec's tolerance. NumPy, the contract and
equivalence only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.contract.evidence import UNPROVEN, FirstStep
from benchmarks.contract.task import Tolerance
from benchmarks.equivalence.norms import relative

AGREES = "agrees"
DISAGREES = "disagrees"

LIMITS = {
    "loss": "loss",
    "gradient_norm": "gradient_norm",
    "update_norm": "gradient_norm",
    "statistics_norm": "gradient_norm",
    "answer_norm": "logits",
}
"""The fields of a FirstStep that are compared, each with the name of its tolerance. A wrong
learning rate shows in the update, a wrong momentum of batch normalisation in the statistics.
Inference has the norm of all logits."""


@dataclass(frozen=True)
class Agreement:
    """The comparison of a case with its reference at step 1."""

    parity: str
    """agrees, disagrees or unproven."""
    reason: str | None = None
    """Why it is not `agrees`."""
    loss_error: float | None = None
    """The largest relative error over the launches."""
    gradient_norm_error: float | None = None


def agreement(
    case: Sequence[FirstStep | None],
    reference: FirstStep | None,
    tolerance: Tolerance | None,
) -> Agreement:
    """Whether every launch of a case agrees with the reference within the tolerance.

    `case` holds the first step of each launch, None if it has no evidence of one. With evidence
    missing the case is unproven; if one launch is off, or not finite, it disagrees. The norms share
    the gradient's tolerance.
    """
    if tolerance is None:
        return Agreement(UNPROVEN, "the workload has no tolerance for this precision")
    if reference is None or not case or any(launch is None for launch in case):
        return Agreement(UNPROVEN, "a launch has no evidence of its first step")
    found = [_compare(launch, reference, tolerance) for launch in case if launch is not None]
    worst = max(found, key=_severity)
    return Agreement(
        parity=worst.parity,
        reason=worst.reason,
        loss_error=_largest([one.loss_error for one in found]),
        gradient_norm_error=_largest([one.gradient_norm_error for one in found]),
    )


def _compare(launch: FirstStep, reference: FirstStep, tolerance: Tolerance) -> Agreement:
    numbers = {name: (getattr(launch, name), getattr(reference, name)) for name in LIMITS}
    errors = {name: _error(*pair) for name, pair in numbers.items()}
    loss, norm = errors["loss"], errors["gradient_norm"]
    for name, error in errors.items():
        limit = tolerance.get(LIMITS[name], 0.0)
        if error is not None and not error <= limit:
            what = name.replace("_", " ")
            reason = f"step-1 {what} is off by {error:.2g}, expected at most {limit:.2g}"
            return Agreement(DISAGREES, reason, loss, norm)
    lacking = any(errors[name] is None and pair != (None, None) for name, pair in numbers.items())
    if loss is None or lacking:
        return Agreement(UNPROVEN, "a launch has no evidence of its first step", loss, norm)
    return Agreement(AGREES, None, loss, norm)


def _error(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else relative(value, reference)


def _severity(one: Agreement) -> int:
    return (AGREES, UNPROVEN, DISAGREES).index(one.parity)


def _largest(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return max(known) if known else None
