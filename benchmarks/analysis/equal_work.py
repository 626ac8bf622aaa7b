"""Whether the cells of a plan did equal work, from the evidence of their launches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.analysis.outcomes import Outcome
from benchmarks.contract.evidence import (
    FAIL,
    INHERITED,
    NOT_COMPARABLE,
    PASS,
    UNPROVEN,
    Evidence,
    ParityVerdict,
)
from benchmarks.contract.precision import precision_of
from benchmarks.contract.record import Record
from benchmarks.contract.task import Tolerance
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.equivalence.pairwise import AGREES, DISAGREES, agreement

RANKED = (PASS, INHERITED)
"""The verdicts with which a cell is compared with others."""
NO_PROOF = "a launch has no evidence of its first step"


@dataclass(frozen=True)
class EffectiveSettings:
    """The dtypes, layouts and kernels that a case used, as its launches report; None if unknown."""

    parameters: str | None = None
    """The dtype of the stored parameters."""
    gradients: str | None = None
    optimizer: str | None = None
    activations: str | None = None
    layout: str | None = None
    """The order of an image's axes in memory: NHWC or NCHW."""
    attention: str | None = None
    """The kernel or method of attention."""
    folded: str | None = None
    """Whether normalisation is folded into the convolutions."""
    integer_products: str | None = None
    """The number of a quantised model's convolutions and matmuls in integers, out of all."""
    products: str | None = None
    """The effective precision of the adapter's matmul and convolution, measured."""
    computed_in: str | None = None
    """The dtype in which matmuls are computed."""
    threads: str | None = None

    def known(self) -> dict[str, str]:
        """The reported values by the names of their fields."""
        return {name: value for name, value in vars(self).items() if value is not None}


INSPECTED = (
    *("parameters", "gradients", "optimizer"),
    *("activations", "layout", "attention", "folded"),
)
"""The settings that a program's inspection reports under the field's name."""


@dataclass(frozen=True)
class CellParity:
    """The verdict on a cell's work, over its launches."""

    status: str
    """pass, fail, inherited, not_comparable or unproven."""
    reason: str | None = None
    """Why it is not `pass`."""
    loss_error: float | None = None
    """The largest relative error of step 1's loss against the oracle, over the launches."""
    effective: EffectiveSettings = EffectiveSettings()
    """The dtypes, layouts and kernels that its launches used."""

    @property
    def is_ranked(self) -> bool:
        """Whether the cell may be compared."""
        return self.status in RANKED


def parities(
    bases: Mapping[str, str],
    outcomes: Mapping[str, Outcome],
    specs: Mapping[str, WorkloadSpec],
) -> dict[str, CellParity]:
    """The verdict on each case_id, from the evidence of its launches.

    If no oracle could be computed, a case whose way is proven at other sizes must also agree with
    its base, in loss and norms of step 1; a tuned case that is its own base, with the same case
    idiomatic.
    """
    return {
        case_id: _parity(outcome, _base(case_id, bases, outcomes), specs)
        for case_id, outcome in outcomes.items()
    }


def _base(
    case_id: str, bases: Mapping[str, str], outcomes: Mapping[str, Outcome]
) -> Outcome | None:
    base_id = bases.get(case_id, case_id)
    counterpart = outcomes[case_id].cell.case.idiomatic
    idiomatic = outcomes.get(counterpart.case_id) if counterpart else None
    if base_id == case_id and idiomatic and idiomatic.records:
        return idiomatic
    return outcomes.get(base_id)


def _parity(case: Outcome, base: Outcome | None, specs: Mapping[str, WorkloadSpec]) -> CellParity:
    if case.status == "invalid_work":
        return CellParity(FAIL, case.reason)
    if not case.records:
        return CellParity(UNPROVEN, NO_PROOF)
    verdicts = [_verdict(record) for record in case.records]
    inspected = _inspected(case.records)
    effective = effective_of(inspected.evidence, inspected.settings)
    for status in (FAIL, NOT_COMPARABLE, UNPROVEN):
        bad = next((one for one in verdicts if one.status == status), None)
        if bad is not None:
            return CellParity(status, bad.reason, effective=effective)
    if all(verdict.status == PASS for verdict in verdicts):
        return CellParity(PASS, loss_error=_loss_error(verdicts), effective=effective)
    return _inherited(case, base, specs, verdicts[-1], effective)


def _inherited(
    case: Outcome,
    base: Outcome | None,
    specs: Mapping[str, WorkloadSpec],
    verdict: ParityVerdict,
    effective: EffectiveSettings,
) -> CellParity:
    reference = base.records[0].evidence.step1 if base and base.records else None
    found = agreement(
        [record.evidence.step1 for record in case.records], reference, _tolerance(case, specs)
    )
    if found.parity == DISAGREES:
        return CellParity(FAIL, f"{found.reason} (against its base)", effective=effective)
    if found.parity != AGREES:
        return CellParity(UNPROVEN, f"{found.reason} (against its base)", effective=effective)
    return CellParity(INHERITED, verdict.reason, effective=effective)


def _verdict(record: Record) -> ParityVerdict:
    return record.evidence.parity or ParityVerdict(UNPROVEN, reason=NO_PROOF)


def _loss_error(verdicts: Sequence[ParityVerdict]) -> float | None:
    errors = [
        check.error
        for verdict in verdicts
        for check in verdict.checks
        if check.name == "loss" and check.error is not None
    ]
    return max(errors, default=None)


def _inspected(records: Sequence[Record]) -> Record:
    """The last launch with an inspection; one of a case's first launch is made in each run."""
    asked = [record for record in records if record.evidence.effective]
    return (asked or records)[-1]


def computed_in(effective: EffectiveSettings, precision: str) -> str:
    """The precision in which a case's matmuls are really computed.

    It is fp32 for bf16 on a CPU without bf16 units: operands are rounded and multiplied in fp32.
    For int8 a framework's own matmuls tell nothing, since only the model is quantised.
    """
    return precision_of(precision, computed_dtype=effective.computed_in)


def effective_of(evidence: Evidence, settings: Mapping[str, Any]) -> EffectiveSettings:
    """The effective settings that a launch or a proof reports, in terms that people compare."""
    seen = evidence.effective
    reported: Mapping[str, Any] = settings.get("effective") or {}
    asked: Mapping[str, Any] = settings.get("asked") or {}
    likes = dict.fromkeys(one.like for one in evidence.precision.values())
    found: dict[str, Any] = {name: getattr(seen, name, None) for name in INSPECTED}
    integers = seen.integer_products if seen else None
    found["integer_products"] = " of ".join(map(str, integers or ())) or None
    found["products"] = ", ".join(likes) or None
    found["computed_in"] = reported.get("products")
    if "num_threads" in asked:
        found["threads"] = reported.get("num_threads", asked["num_threads"])
    return EffectiveSettings(**{k: str(v) for k, v in found.items() if v is not None})


def _tolerance(case: Outcome, specs: Mapping[str, WorkloadSpec]) -> Tolerance | None:
    spec = specs.get(case.cell.case.work.workload)
    return spec.tolerances.get(case.cell.case.way.precision) if spec else None
