"""Evidence that a program does the work: its first step against the oracle, and in a few numbers.

NumPy, the contract and equivalence only.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays
from benchmarks.contract.workload import Tolerance, WorkloadSpec
from benchmarks.equivalence import precision
from benchmarks.equivalence.causes import Trace, first_difference, likely_causes
from benchmarks.equivalence.checks import (
    Check,
    check,
    first_failure,
    frozen_checks,
    gradient_block,
    mismatches,
    step_checks,
    step_errors,
)
from benchmarks.equivalence.norms import in_blocks, relative
from benchmarks.equivalence.verdict import ParityVerdict, judge
from benchmarks.worker.oracle_files import OPTIMIZER_PREFIX, Oracle

CAUSES = {
    "gemm": "precision: TF32 or bf16 products under the name of a finer precision",
    "convolution": "precision: TF32 or bf16 products under the name of a finer precision",
    "reproduced": "state that `load` does not reset",
    "other_batch": "the batch: `feed` does not bring it, or bring it first",
    "flop": "a layer or a backward pass that is missing, or made twice",
    "losses": "batches that do not rotate, or momentum that is dampened or not reset",
    "momentum": "momentum that is dampened, or Nesterov's",
    "second_momentum": "the second moment's decay (beta2)",
    "frozen": "base weights that an optimizer has, or that are decayed",
    "frozen_after": "base weights that an optimizer has, or that are decayed",
    "recomputed": "the KV cache, or the positions of what is decoded",
    "answer": "what is handed out is not the token, or the logits, of this request",
}
"""What is likely wrong where step 1 agrees with the oracle and this check fails."""
HELD = ("optimizer", "frozen", "statistics")
"""What `Program.read` has of each initial array, one of these."""
SAME_BATCH = "the batch does not matter: step 1 has the same loss on another batch"


@dataclass(frozen=True)
class StepEvidence:
    """The first step from the canonical weights on the first canonical batch."""

    loss: float
    gradient_norm: float | None
    """Global L2 norm of the gradient, from the optimizer's state; None without parameters."""
    update_norm: float | None
    """Global L2 norm of what the step added to the parameters; None without parameters."""
    statistics_norm: float | None
    """Global L2 norm of the running statistics after the step; None without any."""
    num_parameters: int
    num_unchanged: int
    """Parameters' arrays that the step left exactly as they were."""
    failure: str | None


NUMBERS = ("loss", "gradient_norm", "update_norm", "statistics_norm")
"""What two first steps of one program are compared by."""


def step_evidence(spec: WorkloadSpec, initial: Arrays, read: Arrays) -> StepEvidence:
    """What `Program.read` shows after one step that began at the initial weights."""
    names = [name for name in initial if f"optimizer/{name}" in read]
    unchanged = [n for n in names if np.array_equal(initial[n], read[f"weights/{n}"])]
    unread = [n for n in initial if not any(f"{group}/{n}" in read for group in HELD)]
    gradient_square, update_square = 0.0, 0.0
    for name in names:
        arrays = (initial[name], read[f"optimizer/{name}"], read[f"weights/{name}"])
        for weight, state, new in in_blocks(*arrays):
            gradient, update = gradient_block(spec, name, weight=weight, state=state), new - weight
            gradient_square += float(gradient @ gradient)
            update_square += float(update @ update)
    statistics = [read[name] for name in read if name.startswith("statistics/")]
    return StepEvidence(
        loss=float(read["loss"]),
        gradient_norm=math.sqrt(gradient_square) if names else None,
        update_norm=math.sqrt(update_square) if names else None,
        statistics_norm=_norm(statistics),
        num_parameters=sum(initial[name].size for name in names),
        num_unchanged=len(unchanged),
        failure=_step_failure(unchanged, unread),
    )


def _step_failure(unchanged: list[str], unread: list[str]) -> str | None:
    if unread:
        return f"{unread[0]}: neither trained nor frozen, {', '.join(HELD)} expected"
    return f"no step was made: {unchanged[0]} is unchanged" if unchanged else None


def prove_first_step(
    spec: WorkloadSpec,
    initial: Arrays,
    read: Arrays,
    oracle: Oracle,
    tolerance: Tolerance,
    *,
    known_mistakes: Callable[[], Iterable[tuple[str, float]]] = tuple,
) -> ParityVerdict:
    """The verdict on step 1, with the likely causes where it differs from the oracle.

    `known_mistakes` yields, if it does, known mistakes, each with the loss that it leads to.
    """
    missing = mismatches(read, oracle.step1)
    parameters = Check("parameters", float(len(missing)), 0.0, next(iter(missing), None))
    if missing:
        return judge([parameters], oracle=oracle.identity)
    errors = step_errors(spec, initial, read, oracle.step1)
    of_step = step_checks(errors, tolerance, stable=spec.stable_gradients)
    checks = [parameters, *of_step, *frozen_checks(initial, read)]
    if first_failure(of_step) is None:
        return judge(checks, oracle=oracle.identity)
    trace = Trace(spec, initial, read, oracle.step1, errors, tolerance, known_mistakes)
    return judge(
        checks,
        oracle=oracle.identity,
        first_difference=first_difference(errors, tolerance),
        causes=likely_causes(trace),
    )


def precision_checks(framework: Framework, asked: str) -> list[Check]:
    """The errors of a matrix product and of a convolution against float64.

    A precision that is coarser than the one asked for does not pass.
    """
    limit = precision.largest_error(asked)
    matrices, images = precision.matrix_product(), precision.convolution()
    put, get = framework.put, framework.get
    product = framework.matmul(put(matrices.left_operand), put(matrices.right_operand))
    convolved = framework.convolve(put(images.left_operand), put(images.right_operand))
    return [
        check("gemm", matrices.error(get(product)), limit),
        check("convolution", images.error(get(convolved)), limit),
    ]


def causes_of(checks: Sequence[Check], causes: Sequence[str]) -> tuple[str, ...]:
    """The causes of a whole proof: of step 1 where it is off, else what the first failure tells."""
    if causes:
        return tuple(causes)
    failed = first_failure(checks)
    return (CAUSES[failed.name],) if failed is not None and failed.name in CAUSES else ()


def reproduction_check(first: StepEvidence, again: StepEvidence, tolerance: Tolerance) -> Check:
    """Whether a program that is loaded anew makes the same first step again."""
    errors = []
    for name in NUMBERS:
        value, reference = getattr(again, name), getattr(first, name)
        if value is not None and reference is not None:
            errors.append(relative(value, reference))
    return check("reproduced", max(errors), tolerance.get("gradient_norm"))


def other_batch_check(loss: float, oracle: Oracle, tolerance: Tolerance) -> Check:
    """Whether step 1 on another batch has that batch's loss."""
    return check("other_batch", relative(loss, oracle.other_loss), tolerance.get("loss"))


def marks(read: Arrays) -> dict[str, int]:
    """A checksum of each parameter with its optimizer's state: a step changes every one.

    Both together, because a weight can stay the same where its update is below rounding.
    """
    found = {}
    for name in read:
        if name.startswith(OPTIMIZER_PREFIX):
            parameter = name.removeprefix(OPTIMIZER_PREFIX)
            weight, state = read[f"weights/{parameter}"], read[name]
            found[parameter] = zlib.crc32(_bytes(weight), zlib.crc32(_bytes(state)))
    return found


def unmoved(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """The parameters that no step reached in between."""
    return [name for name, mark in after.items() if before.get(name) == mark]


def is_finite(read: Arrays) -> bool:
    """Whether the loss and every array that a program holds are finite."""
    return all(bool(np.isfinite(array).all()) for array in read.values())


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def _norm(arrays: Iterable[np.ndarray]) -> float | None:
    squares = [float(np.square(array, dtype=np.float64).sum()) for array in arrays]
    return math.sqrt(sum(squares)) if squares else None
