"""Why to trust a launch's numbers: what it has shown of its fence, its work and its precision.

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
"""Other mathematics than the workload's, as the implementation says itself (DIFFERS)."""
UNPROVEN = "unproven"
SKIP = "skip"


@dataclass(frozen=True)
class Check:
    """One comparison with the oracle."""

    name: str
    error: float | None
    """None if it is not finite."""
    tolerance: float | None
    """The largest error that passes; None if the check is shown and not judged."""
    worst_tensor: str | None = None
    """Canonical name of the tensor that is furthest off, if tensors are compared."""

    @property
    def passes(self) -> bool:
        """Whether the error is within the tolerance, or is not judged."""
        if self.tolerance is None:
            return True
        return self.error is not None and self.error <= self.tolerance


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
    """The verdict that `ParityVerdict.to_json` wrote; TypeError or KeyError if it is none."""
    checks = tuple(Check(**one) for one in data["checks"])
    return ParityVerdict(**{**data, "checks": checks, "causes": tuple(data["causes"])})


@dataclass(frozen=True)
class ProductPrecision:
    """How exact a framework's product is, measured against float64."""

    error: float
    """Relative error of the product of random operands."""
    like: str
    """The precision that has errors of this size."""


@dataclass(frozen=True)
class FenceReport:
    """What the fence's self-test on matmuls found."""

    fence_s: float
    """Seconds of an empty fence, median of 50."""
    matmul_size: int
    num_products: int
    """Dependent products of once the work."""
    doubling: float
    """Shortest time of twice the work / shortest time of once: noise only adds to either."""
    leftover_s: float
    """Seconds of twice the work that were left when its fence returned earliest, 0 if none."""
    roof_flop_per_s: float
    """Rate of the fastest product: the measured roof at this precision."""
    failure: str | None


@dataclass(frozen=True)
class FirstStep:
    """A program's first step in a few numbers, by which two programs are compared.

    Training: the first step from the canonical weights on the first canonical batch. Inference: the
    answers to the first withheld batch. A number that the work does not have is None.
    """

    loss: float
    """Inference: mean cross-entropy of the logits against fixed labels, sensitive to every one."""
    gradient_norm: float | None = None
    """Global L2 norm of the gradient, from the optimizer's state."""
    update_norm: float | None = None
    """Global L2 norm of what the step added to the parameters."""
    statistics_norm: float | None = None
    """Global L2 norm of the running statistics after the step."""
    num_parameters: int | None = None
    num_unchanged: int | None = None
    """Parameters' arrays that the step left exactly as they were."""
    answer_norm: float | None = None
    """L2 norm of all logits."""
    num_logits: int | None = None
    failure: str | None = None
    """Why this was no step."""


@dataclass
class Evidence:
    """What a launch has shown so far; None, or empty, is what it has not come to."""

    precision: dict[str, ProductPrecision] = field(default_factory=dict)
    """By check, gemm and convolution."""
    fence: FenceReport | None = None
    roof_flop_per_s: float | None = None
    """The fence report's, once the fence has passed."""
    placement: str | None = None
    """The kind of device on which the program's values lie."""
    first_step_s: float | None = None
    """Seconds of the first step with what it needs before it, such as a prompt."""
    step1: FirstStep | None = None
    parity: ParityVerdict | None = None
    leftover_share: float | None = None
    """Share of a block's time that was left when the program's fence returned."""
    num_compilations: int | None = None
    """Compilations until the first turn."""
    effective: Effective | None = None
    """What the program works with; None if it was not asked."""
    inspection_failure: str | None = None
    """Why the program could not say what it works with."""
    final_loss: float | None = None
    share_of_audit: float | None = None
    """Time of the timed steps in that of the steps that were checked."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Numbers of a kind of work of its own, for a metric to read."""


def evidence_from_json(data: Mapping[str, Any], *, before_schema_4: bool = False) -> Evidence:
    """The evidence that `dataclasses.asdict` made of one, or that a record before schema 4 holds.

    Raises ValueError if a field is unknown, KeyError or TypeError if one has another shape.
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
    "effective": _effective,
}
