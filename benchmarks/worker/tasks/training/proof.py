"""Evidence that a program does the work: its first step in numbers, and against the oracle.

NumPy, the contract, equivalence and the oracle's files.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.contract.evidence import UNPROVEN, Check, FirstStep, ParityVerdict
from benchmarks.contract.optimizer import Optimizer
from benchmarks.contract.program import Arrays
from benchmarks.contract.task import Tolerance
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.equivalence.causes import first_difference, likely_causes
from benchmarks.equivalence.checks import (
    check,
    first_failure,
    frozen_checks,
    gradient_block,
    mismatches,
    step_checks,
    step_errors,
)
from benchmarks.equivalence.norms import in_blocks, relative
from benchmarks.equivalence.own_update import (
    States,
    causes_of_update,
    own_checks,
    own_errors,
    sample_of,
)
from benchmarks.equivalence.trace import NO_SUSPECTS, Suspects, Trace
from benchmarks.equivalence.verdict import judge
from benchmarks.worker.oracle_files import OPTIMIZER_PREFIX, Oracle
from benchmarks.worker.tasks.protocol import NO_ORACLE, NUMBERS

CAUSES = {
    "other_batch": "`feed` does not put the given batch first, or ignores it",
    "frozen": "frozen base weights are in the optimizer, or are decayed",
    "frozen_after": "frozen base weights are in the optimizer, or are decayed",
}
"""The likely mistake if step 1 agrees with the oracle and this check fails."""
HELD = ("optimizer", "frozen", "statistics")
"""The prefixes of `Program.read`: each initial array must be under one of these."""
SAME_BATCH = "the batch does not matter: step 1 has the same loss on another batch"


def step_evidence(spec: WorkloadSpec, initial: Arrays, read: Arrays) -> FirstStep:
    """The numbers of one step from the initial weights, taken from `Program.read` after it."""
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
    return FirstStep(
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
        return f"`read` returned {unread[0]} under no prefix, expected one of {', '.join(HELD)}"
    return f"the step left {unchanged[0]} unchanged, expected an update" if unchanged else None


def prove_first_step(
    spec: WorkloadSpec,
    initial: Arrays,
    read: Arrays,
    oracle: Oracle,
    tolerance: Tolerance,
    *,
    suspects: Suspects = NO_SUSPECTS,
) -> ParityVerdict:
    """The verdict on step 1, with the likely causes if it differs from the oracle."""
    missing = mismatches(read, oracle.step1)
    parameters = Check("parameters", float(len(missing)), 0.0, next(iter(missing), None))
    if missing:
        return judge([parameters], oracle=oracle.identity)
    errors = step_errors(spec, initial, read, oracle.step1)
    own = own_first_step(spec.optimizer, initial, read, tolerance)
    of_step = [*step_checks(errors, tolerance, stable=spec.stable_gradients), *own.checks]
    checks = [parameters, *of_step, *frozen_checks(initial, read)]
    if first_failure(of_step) is None:
        return judge(checks, oracle=oracle.identity)
    trace = Trace(spec, initial, read, oracle.step1, errors, tolerance, suspects)
    return judge(
        checks,
        oracle=oracle.identity,
        first_difference=first_difference(errors, tolerance),
        causes=likely_causes(trace) or own.causes,
    )


class OwnStep(NamedTuple):
    """A step held to the program's own moments."""

    checks: list[Check]
    causes: list[str]
    """What explains a failure."""


def own_first_step(
    optimizer: Optimizer | None, initial: Arrays, read: Arrays, tolerance: Tolerance
) -> OwnStep:
    """The checks of step 1 against its own moments; none if the optimizer is not known."""
    if optimizer is None:
        return OwnStep([], [])
    sample = sample_of(read, initial, seed=0)
    before, after = sample.initial(initial), sample.states(read)
    return own_step(optimizer, before, after, tolerance, number=1)


def own_step(
    optimizer: Optimizer,
    before: States,
    after: States,
    tolerance: Tolerance,
    *,
    number: int,
    coarsest: float = math.inf,
) -> OwnStep:
    """The checks of step `number` against its own moments; `coarsest` as in `rounding_unit`."""
    errors = own_errors(optimizer, before, after, number=number, coarsest=coarsest)
    checks = list(own_checks(errors, tolerance))
    if first_failure(checks) is None:
        return OwnStep(checks, [])
    return OwnStep(checks, causes_of_update(optimizer, before, after, number=number))


def unproven_step(
    optimizer: Optimizer | None, initial: Arrays, read: Arrays, tolerance: Tolerance
) -> ParityVerdict:
    """The verdict on step 1 if there is no oracle: only a contradiction to itself shows."""
    own = own_first_step(optimizer, initial, read, tolerance)
    if first_failure(own.checks) is not None:
        return judge(own.checks, causes=own.causes)
    return ParityVerdict(UNPROVEN, tuple(own.checks), reason=NO_ORACLE)


def reproduction_check(first: FirstStep, again: FirstStep, tolerance: Tolerance) -> Check:
    """Whether a program that is loaded again repeats the same first step."""
    errors = []
    for name in NUMBERS:
        value, reference = getattr(again, name), getattr(first, name)
        if value is not None and reference is not None:
            errors.append(relative(value, reference))
    return check("reproduced", max(errors), tolerance.get("gradient_norm"))


def other_batch_check(loss: float, oracle: Oracle, tolerance: Tolerance) -> Check:
    """Whether step 1 on another batch has the loss of that batch."""
    return check("other_batch", relative(loss, oracle.other_loss), tolerance.get("loss"))


def marks(read: Arrays) -> dict[str, int]:
    """A checksum of each parameter with its optimizer's state, which every step changes.

    The two go together, because a weight stays the same if its update is below rounding.
    """
    found = {}
    for name in read:
        if name.startswith(OPTIMIZER_PREFIX):
            parameter = name.removeprefix(OPTIMIZER_PREFIX)
            weight, state = read[f"weights/{parameter}"], read[name]
            found[parameter] = zlib.crc32(_bytes(weight), zlib.crc32(_bytes(state)))
    return found


def unmoved(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """The parameters that no step changed between these two sets of checksums."""
    return [name for name, mark in after.items() if before.get(name) == mark]


def is_finite(read: Arrays) -> bool:
    """Whether the loss and every array that a program holds are finite."""
    return all(bool(np.isfinite(array).all()) for array in read.values())


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def _norm(arrays: Iterable[np.ndarray]) -> float | None:
    squares = [float(np.square(array, dtype=np.float64).sum()) for array in arrays]
    return math.sqrt(sum(squares)) if squares else None
