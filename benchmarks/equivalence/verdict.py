"""The verdict on one cell's work: its checks, whether they pass, and the likely causes if not.

NumPy and the contract only.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contract.evidence import FAIL, PASS, UNPROVEN, Check, ParityVerdict
from benchmarks.equivalence.checks import first_failure, not_judged

NAMES = {
    "gemm": "matmul",
    "convolution": "convolution",
    "parameters": "arrays that are missing or have another shape",
    "changed": "parameters that the step left unchanged",
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
    "own_update": "update, against the program's own moments",
    "own_update_tensor": "update of one tensor, against the program's own moments",
    "own_second_moment": "second moment, against the program's own gradient",
    "later_update": "update of a later step, against the program's own moments",
    "later_update_tensor": "update of one tensor in a later step, against its own moments",
    "later_second_moment": "second moment of a later step, against the program's own gradient",
    "continued_loss": "loss of a later step, against the same step after a fresh load",
    "continued_gradient": "gradient of a later step, against the same step after a fresh load",
    "continued_statistics": "running statistics of a later step, against those after a fresh load",
    "unread_steps": "steps that are not read, against the same steps with a read after each",
    "reproduced": "step 1, repeated",
    "as_proven": "the first step's numbers, against those of the launch that was proven",
    "other_batch": "loss of step 1 on another batch",
    "flop": "FLOP by the framework's count",
    "losses": "losses of ten steps",
    "momentum": "optimizer's state after ten steps",
    "second_momentum": "optimizer's second moment after ten steps",
    "finite": "batches with answers that are not finite",
    "distinct": "batches with the same logits as another one",
    "answer": "returned answer, against the program's logits",
    "logits": "logits",
    "logits_worst": "logits of one item",
    "argmax": "share of items with another largest logit",
    "recomputed": "logits, against a full re-computation",
    "continued": "logits of free-running decode, against a full re-computation",
    "timed": "answers to timed requests",
    "handed_out": "answers of a timed sequence, against a full re-computation",
    "repeated": "answers of a timed sequence, against the same requests again",
    "integer": "share of the convolutions and matmuls that are not in integers",
    "untold": "models that do not report their convolution dtype",
}
"""The subject of each check, for people."""


COUNTS = ("changed", "parameters", "frozen", "frozen_after", "finite", "distinct", "untold")
"""Checks whose error is a count: of tensors, batches or models. Their subject is the cause."""
UNKNOWN = "cause unknown"
"""What a verdict says if no known mistake explains the difference."""


def judge(
    checks: Sequence[Check],
    *,
    oracle: str | None = None,
    first_difference: str | None = None,
    causes: Sequence[str] = (),
) -> ParityVerdict:
    """Pass if every check passes; else fail, and the reason is the first check that fails.

    Unproven if a required check has no tolerance.
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
    elif failed.name not in COUNTS:
        parts.append(UNKNOWN)
    return ParityVerdict(
        FAIL, tuple(checks), "; ".join(parts), first_difference, tuple(causes), oracle=oracle
    )


def describe(check: Check) -> str:
    """One check in words: its subject, its error and its tolerance."""
    error = "not finite" if check.error is None else f"off by {check.error:.2g}"
    if check.name in COUNTS and check.error is not None:
        error = f"{check.error:.0f}"
    where = f" ({check.worst_tensor})" if check.worst_tensor else ""
    return f"{NAMES.get(check.name, check.name)}{where}: {error}, at most {check.tolerance:.2g}"
