"""The verdict on one cell's work: what was checked, whether it passed, and what is likely wrong.

NumPy and the contract only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.equivalence.checks import Check, check_from_json, first_failure, not_judged

PASS = "pass"  # noqa: S105 - a verdict, no secret
FAIL = "fail"
INHERITED = "inherited"
"""Proven where the oracle can be computed, and carried over to a size where it cannot."""
NOT_COMPARABLE = "not_comparable"
"""Other mathematics than the workload's, as the implementation says itself (DIFFERS)."""
UNPROVEN = "unproven"
SKIP = "skip"

NAMES = {
    "gemm": "matrix product",
    "convolution": "convolution",
    "parameters": "arrays missing or of another shape",
    "changed": "parameters that the step left as they were",
    "frozen": "frozen weights that the step changed",
    "frozen_after": "frozen weights that later steps changed",
    "loss": "loss of step 1",
    "first_layer": "running statistics of the first layer",
    "statistics": "running statistics",
    "decay": "weight decay in the gradient",
    "decoupled_decay": "weight decay in the update",
    "gradient": "gradient",
    "cosine": "1 - cosine of the gradient",
    "gradient_norm": "norm of the gradient",
    "gradient_tensor": "gradient of one tensor",
    "stable_gradient": "gradient of the last layer",
    "second_moment": "optimizer's second moment",
    "update": "update of the weights",
    "update_norm": "norm of the update",
    "reproduced": "step 1, done again",
    "other_batch": "loss of step 1 on another batch",
    "flop": "FLOP by the framework's count",
    "losses": "losses of ten steps",
    "momentum": "optimizer's state after ten steps",
    "second_momentum": "optimizer's second moment after ten steps",
    "finite": "batches with answers that are not finite",
    "distinct": "requests that were answered like another one",
    "answer": "what the client got, beside what was computed",
    "logits": "logits",
    "logits_worst": "logits of one item",
    "argmax": "share of items with another largest logit",
    "recomputed": "logits beside those of a full re-computation",
    "continued": "logits after the program's own answers, beside a full re-computation",
    "timed": "answers to timed requests",
    "integer": "share of the convolutions that are not of integers",
    "untold": "models whose inspection does not tell what their convolutions are of",
}
"""What each check looks at, for people."""


COUNTS = ("changed", "parameters", "frozen", "frozen_after", "finite", "distinct", "untold")
"""Checks whose error is a number of things: tensors, batches, requests, models."""


@dataclass(frozen=True)
class ParityVerdict:
    """What is known of one launch's or one cell's work."""

    status: str
    """pass, fail, inherited, not_comparable, unproven or skip."""
    checks: tuple[Check, ...] = ()
    reason: str | None = None
    """Why it is not `pass`, on one line."""
    first_difference: str | None = None
    """The first tensor, in the order of the forward pass, that is off."""
    causes: tuple[str, ...] = ()
    """What is likely wrong, the likeliest first."""
    oracle: str | None = None
    """Content hash of the oracle."""

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON, the inverse of `verdict_from_json`."""
        return dataclasses.asdict(self)


def verdict_from_json(data: Mapping[str, Any]) -> ParityVerdict:
    """The verdict that `ParityVerdict.to_json` wrote; TypeError or KeyError where it is none."""
    checks = tuple(check_from_json(one) for one in data["checks"])
    return ParityVerdict(**{**data, "checks": checks, "causes": tuple(data["causes"])})


def judge(
    checks: Sequence[Check],
    *,
    oracle: str | None = None,
    first_difference: str | None = None,
    causes: Sequence[str] = (),
) -> ParityVerdict:
    """Pass where every check does; else fail, and the reason is the first that does not.

    Unproven where a check that is needed is not judged.
    """
    failed = first_failure(checks)
    lacking = not_judged(checks)
    if failed is None and lacking:
        names = ", ".join(NAMES[name] for name in lacking)
        reason = f"the workload has no tolerance in this precision for: {names}"
        return ParityVerdict(UNPROVEN, tuple(checks), reason, oracle=oracle)
    if failed is None:
        return ParityVerdict(PASS, tuple(checks), oracle=oracle)
    parts = [describe(failed)]
    if first_difference:
        parts.append(f"first to differ: {first_difference}")
    if causes:
        parts.append(f"likely: {causes[0]}")
    return ParityVerdict(
        FAIL, tuple(checks), "; ".join(parts), first_difference, tuple(causes), oracle=oracle
    )


def describe(check: Check) -> str:
    """One check in words: what was looked at, how far off it is, how far it may be."""
    error = "not finite" if check.error is None else f"off by {check.error:.2g}"
    if check.name in COUNTS and check.error is not None:
        error = f"{check.error:.0f}"
    where = f" ({check.worst_tensor})" if check.worst_tensor else ""
    return f"{NAMES.get(check.name, check.name)}{where}: {error}, at most {check.tolerance:.2g}"
