"""Whether the cells of a plan did equal work, from what each of their launches has shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.analysis.outcomes import Outcome
from benchmarks.contract.precision import precision_of
from benchmarks.contract.record import Record
from benchmarks.contract.workload import Tolerance, WorkloadSpec
from benchmarks.equivalence.pairwise import AGREES, DISAGREES, agreement
from benchmarks.equivalence.verdict import (
    FAIL,
    INHERITED,
    NOT_COMPARABLE,
    PASS,
    UNPROVEN,
    ParityVerdict,
    verdict_from_json,
)

RANKED = (PASS, INHERITED)
"""The verdicts with which a cell is compared with others."""
NO_PROOF = "a launch has shown nothing of its first step"


@dataclass(frozen=True)
class CellParity:
    """What is known of a cell's work, over its launches."""

    status: str
    """pass, fail, inherited, not_comparable or unproven."""
    reason: str | None = None
    """Why it is not `pass`."""
    loss_error: float | None = None
    """Of step 1 against the oracle, relative, the largest over the launches."""
    effective: Mapping[str, str] = field(default_factory=dict)
    """What its launches really worked with: dtypes, layout, attention, products, threads."""

    @property
    def is_ranked(self) -> bool:
        """Whether the cell may be compared."""
        return self.status in RANKED


def parities(
    bases: Mapping[str, str],
    outcomes: Mapping[str, Outcome],
    specs: Mapping[str, WorkloadSpec],
) -> dict[str, CellParity]:
    """For each case_id what its launches have shown.

    Where no oracle could be computed, a case whose way is proven at other sizes must also agree
    with its base, in loss and norms of step 1.
    """
    return {
        case_id: _parity(outcome, outcomes.get(bases.get(case_id, case_id)), specs)
        for case_id, outcome in outcomes.items()
    }


def _parity(case: Outcome, base: Outcome | None, specs: Mapping[str, WorkloadSpec]) -> CellParity:
    if case.status == "invalid_work":
        return CellParity(FAIL, case.reason)
    if not case.records:
        return CellParity(UNPROVEN, NO_PROOF)
    verdicts = [_verdict(record) for record in case.records]
    effective = effective_of(_inspected(case.records))
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
    effective: Mapping[str, str],
) -> CellParity:
    reference = _step1(base.records[0]) if base and base.records else None
    found = agreement(
        [_step1(record) for record in case.records], reference, _tolerance(case, specs)
    )
    if found.parity == DISAGREES:
        return CellParity(FAIL, f"{found.reason} (beside its base)", effective=effective)
    if found.parity != AGREES:
        return CellParity(UNPROVEN, f"{found.reason} (beside its base)", effective=effective)
    return CellParity(INHERITED, verdict.reason, effective=effective)


def _verdict(record: Record) -> ParityVerdict:
    try:
        return verdict_from_json(record.evidence["parity"])
    except (KeyError, TypeError):
        return ParityVerdict(UNPROVEN, reason=NO_PROOF)


def _loss_error(verdicts: Sequence[ParityVerdict]) -> float | None:
    errors = [
        check.error
        for verdict in verdicts
        for check in verdict.checks
        if check.name == "loss" and check.error is not None
    ]
    return max(errors, default=None)


def _inspected(records: Sequence[Record]) -> Record:
    """The last launch that was asked what it works with; a case's first is."""
    asked = [record for record in records if record.evidence.get("effective")]
    return (asked or records)[-1]


def computed_in(effective: Mapping[str, str], precision: str) -> str:
    """The precision that products are really computed in, of what a case works with."""
    return precision_of(precision, computed_dtype=effective.get("computed in"))


def effective_of(record: Record) -> dict[str, str]:
    """What a launch reports of itself, by what people compare."""
    seen: Mapping[str, Any] = record.evidence.get("effective") or {}
    settings: Mapping[str, Any] = record.settings.get("effective") or {}
    asked: Mapping[str, Any] = record.settings.get("asked") or {}
    precision: Mapping[str, Any] = record.evidence.get("precision") or {}
    likes = dict.fromkeys(str(one["like"]) for one in precision.values())
    told = (
        *("parameters", "gradients", "optimizer", "activations", "layout", "attention"),
        "folded",
    )
    found = {name: str(seen[name]) for name in told if seen.get(name) is not None}
    if seen.get("integer_products"):
        found["products of integers"] = " of ".join(map(str, seen["integer_products"]))
    if likes:
        found["products"] = ", ".join(likes)
    if "products" in settings:
        found["computed in"] = str(settings["products"])
    if "num_threads" in asked:
        found["threads"] = str(settings.get("num_threads", asked["num_threads"]))
    return found


def _tolerance(case: Outcome, specs: Mapping[str, WorkloadSpec]) -> Tolerance | None:
    spec = specs.get(case.cell.case.work.workload)
    return spec.tolerances.get(case.cell.case.way.precision) if spec else None


def _step1(record: Record) -> Mapping[str, Any] | None:
    evidence = record.evidence.get("step1")
    return evidence if isinstance(evidence, Mapping) else None
