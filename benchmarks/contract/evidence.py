"""The evidence that a launch's numbers can be trusted: on its fence, work and precision.

A worker fills an `Evidence` in while it goes through its phases, messages carry it, and records
keep it. Standard library and the contract only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from benchmarks.contract.program import Effective

PASS = "pass"  # noqa: S105 - a verdict, no secret
FAIL = "fail"
INHERITED = "inherited"
"""Proven at a size that has an oracle, and carried over to a size that has none."""
NOT_COMPARABLE = "not_comparable"
"""The implementation declares that its mathematics is not the workload's (DIFFERS)."""
UNPROVEN = "unproven"
SKIP = "skip"


@dataclass(frozen=True)
class Check:
    """One comparison with the oracle."""

    name: str
    error: float | None
    """None if it is not finite."""
    tolerance: float | None
    """The largest error that passes; None if the check is shown but not judged."""
    worst_tensor: str | None = None
    """Canonical name of the tensor with the largest error, if tensors are compared."""

    @property
    def passes(self) -> bool:
        """Whether the error is within the tolerance, or the check is not judged."""
        if self.tolerance is None:
            return True
        return self.error is not None and self.error <= self.tolerance


@dataclass(frozen=True)
class ParityVerdict:
    """Whether the work of one launch or cell is equal to the oracle's, with the checks."""

    status: str
    """pass, fail, inherited, not_comparable, unproven or skip."""
    checks: tuple[Check, ...] = ()
    reason: str | None = None
    """Why the status is not `pass`, on one line."""
    first_difference: str | None = None
    """The first tensor, in the order of the forward pass, that differs from the oracle's."""
    causes: tuple[str, ...] = ()
    """Likely mistakes, the likeliest first."""
    oracle: str | None = None
    """Content hash of the oracle."""

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON, the inverse of `verdict_from_json`."""
        return dataclasses.asdict(self)


def verdict_from_json(data: Mapping[str, Any]) -> ParityVerdict:
    """The verdict that `ParityVerdict.to_json` wrote; TypeError or KeyError for other data."""
    checks = tuple(Check(**one) for one in data["checks"])
    return ParityVerdict(**{**data, "checks": checks, "causes": tuple(data["causes"])})


@dataclass(frozen=True)
class ProductPrecision:
    """Effective precision of a framework's matmul or convolution, measured against float64."""

    error: float
    """Relative error of the result for random operands."""
    like: str
    """The precision whose errors have this size."""


@dataclass(frozen=True)
class FenceReport:
    """The result of the fence's self-test, on a chain of n matmuls and one of 2 n."""

    fence_s: float
    """Seconds of an empty fence, median of 50."""
    matmul_size: int
    num_products: int
    """The number n of dependent matmuls in the short chain."""
    doubling: float
    """Shortest time of the long chain / shortest time of the short one: noise only adds time."""
    leftover_s: float
    """Seconds of the long chain that were left when the earliest fence returned, 0 if none."""
    roof_flop_per_s: float
    """Rate of the fastest matmul: the measured roofline at this precision."""
    failure: str | None
    """How the fence was seen to return early, or None."""
    doubt: str | None = None
    """Why the test is undetermined, or None."""


@dataclass(frozen=True)
class FirstStep:
    """A program's first step in a few numbers, by which two programs are compared.

    Training: the first step from the canonical weights on the first canonical batch. Inference: the
    answers to the first withheld batch. A number that this kind of work does not have is None.
    """

    loss: float
    """Inference: mean cross-entropy against fixed labels, which depends on every logit."""
    gradient_norm: float | None = None
    """Global L2 norm of the gradient, from the optimizer's state."""
    update_norm: float | None = None
    """Global L2 norm of the parameters' change by the step."""
    statistics_norm: float | None = None
    """Global L2 norm of the running statistics after the step."""
    num_parameters: int | None = None
    num_unchanged: int | None = None
    """Number of parameter arrays that the step did not change at all."""
    answer_norm: float | None = None
    """L2 norm of all logits."""
    num_logits: int | None = None
    failure: str | None = None
    """Why this was no valid step."""


@dataclass(frozen=True)
class Tested:
    """What a launch's self-tests have shown of its framework, whatever it computes.

    Launches of other cases with the same framework, precision and place need not repeat them.
    """

    launch_id: str
    precision: dict[str, ProductPrecision]
    fence: FenceReport


def tested_from_json(data: Mapping[str, Any]) -> Tested:
    """The inverse of `dataclasses.asdict`; TypeError or KeyError for other data."""
    precision = {name: ProductPrecision(**one) for name, one in data["precision"].items()}
    return Tested(data["launch_id"], precision, FenceReport(**data["fence"]))


@dataclass(frozen=True)
class Proven:
    """What a case's proving launch has shown in full; the run's later launches are held to it.

    They run the same code, so that most of the proof would find the same again. What a launch
    could still do in another way is bounded by the numbers of its first step.
    """

    launch_id: str
    step1: FirstStep
    parity: ParityVerdict
    """The verdict on its first step."""


def proven_from_json(data: Mapping[str, Any]) -> Proven:
    """The inverse of `dataclasses.asdict`; TypeError or KeyError for other data."""
    step1, parity = FirstStep(**data["step1"]), verdict_from_json(data["parity"])
    return Proven(**{**data, "step1": step1, "parity": parity})


@dataclass
class Evidence:
    """The evidence of a launch so far; a field that it has not reached is None or empty."""

    precision: dict[str, ProductPrecision] = field(default_factory=dict)
    """The effective precision by operation: gemm and convolution."""
    fence: FenceReport | None = None
    roof_flop_per_s: float | None = None
    """The fence report's roofline, once the fence has passed."""
    placement: str | None = None
    """The kind of device on which the program's values are."""
    first_step_s: float | None = None
    """Seconds of the first step and of its preparation, such as a prompt."""
    step1: FirstStep | None = None
    parity: ParityVerdict | None = None
    tested_by: str | None = None
    """launch_id of the launch from which the fence and the roofline are, if not from this one."""
    proven_by: str | None = None
    """launch_id of the launch that proved the case in full, if this one was held to its numbers:
    then this one has no precision, fence, roofline and effective settings of its own."""
    later_steps: ParityVerdict | None = None
    """The verdict on steps after the timed ones; see `Task.prove_end`."""
    leftover_share: float | None = None
    """Share of a block's time for which work went on after the program's fence had returned."""
    num_compilations: int | None = None
    """Compilations until the first turn."""
    effective: Effective | None = None
    """The program's effective settings; None if it was not inspected."""
    inspection_failure: str | None = None
    """Why the inspection of the program failed."""
    final_loss: float | None = None
    share_of_audit: float | None = None
    """Time of a timed step / time of a checked step; a small share shows skipped work."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Further numbers of a kind of work, by name, for a metric to read."""


def evidence_from_json(data: Mapping[str, Any], *, before_schema_4: bool = False) -> Evidence:
    """The evidence from its `dataclasses.asdict`, or from a record before schema 4.

    Raises ValueError if a field is unknown, KeyError or TypeError if a field has another shape.
    """
    known = {one.name for one in dataclasses.fields(Evidence)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"evidence: unknown fields {unknown}")
    found = _upgraded(data) if before_schema_4 else {**data}
    for name, read in _TYPED.items():
        if found.get(name) is not None:
            found[name] = read(found[name])
    return Evidence(**found)


def _upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence of a record before schema 4, in the shapes of schema 4."""
    found = {**data}
    if found.get("fence"):
        found["fence"] = {"num_products": 1, **found["fence"]}
    effective = found.get("effective") or {}
    if "failure" in effective:
        found.update(effective=None, inspection_failure=effective["failure"])
    elif isinstance(effective.get("integer_products"), str):
        num_integer, num_all = re.findall(r"\d+", effective["integer_products"])
        counts = (int(num_integer), int(num_all))
        found["effective"] = {**effective, "integer_products": counts}
    return found


def _effective(data: Mapping[str, Any]) -> Effective:
    products = data.get("integer_products")
    return Effective(**{**data, "integer_products": None if products is None else tuple(products)})


_TYPED: Mapping[str, Callable[[Any], Any]] = {
    "precision": lambda data: {name: ProductPrecision(**one) for name, one in data.items()},
    "fence": lambda data: FenceReport(**data),
    "step1": lambda data: FirstStep(**data),
    "parity": verdict_from_json,
    "later_steps": verdict_from_json,
    "effective": _effective,
}
