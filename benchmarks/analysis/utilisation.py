"""Each cell's share of the roof (the fastest matmul on its device) and of the datasheet's peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.analysis.cells import Measured
from benchmarks.analysis.equal_work import CellParity, computed_in, effective_of
from benchmarks.analysis.outcomes import Outcome
from benchmarks.contract.case import Case, Place
from benchmarks.contract.plan import Plan
from benchmarks.contract.precision import PRECISIONS, products_of
from benchmarks.contract.record import Record

Roofs = Mapping[tuple[Place, str], float]


def utilisation(measured: Measured | None, peak_flop_per_s: float | None) -> float | None:
    """Achieved FLOP/s over this peak; None if either is not known."""
    if not peak_flop_per_s or measured is None or measured.step_s is None:
        return None
    return measured.flop_per_step / measured.step_s.estimate / peak_flop_per_s


def shares_of_roofs(
    found: Mapping[str, Outcome],
    measured: Mapping[str, Measured | None],
    parity: Mapping[str, CellParity],
) -> tuple[dict[str, float], dict[str, float]]:
    """By case_id, the shares of roofs; and the shares above 1 of cases that exceed their roof.

    Only cases with proven work have either. If one of them exceeds a roof, it is no roof, and no
    case has a share of it.
    """
    roofs = _roofs([record for outcome in found.values() for record in outcome.records])
    keys = {
        case_id: _roof_key(outcome.cell.case, parity[case_id])
        for case_id, outcome in found.items()
        if outcome.is_ok and parity[case_id].is_ranked
    }
    rates = {case_id: utilisation(measured[case_id], roofs.get(keys[case_id])) for case_id in keys}
    known = {case_id: rate for case_id, rate in rates.items() if rate is not None}
    above = {case_id: rate for case_id, rate in known.items() if rate > 1}
    broken = {keys[case_id] for case_id in above}
    shares = {case_id: rate for case_id, rate in known.items() if keys[case_id] not in broken}
    return shares, above


def _roofs(records: Sequence[Record]) -> Roofs:
    """The roofs: FLOP/s of the fastest matmul measured on each device in each precision.

    For several devices it is that of one, times their number.

    If matmuls are not computed in the precision of their name (bf16 on a CPU without it), the
    framework's matmul is no roof: it may be many times slower than the work. int8 has no roof,
    because an adapter's matmuls are in floating point.
    """
    roofs: dict[tuple[Place, str], float] = {}
    for record in records:
        seen = record.evidence.roof_flop_per_s
        if seen is not None and seen > 0:
            precision = products_of(record.case.way.precision)
            is_its_own = (
                computed_in(effective_of(record.evidence, record.settings), precision) == precision
            )
            if is_its_own and not PRECISIONS[precision].is_quantised:
                key = (record.case.place, precision)
                rate = seen * record.case.place.num_devices  # seen on one device
                roofs[key] = max(roofs.get(key, 0.0), rate)
    return roofs


def _roof_key(case: Case, parity: CellParity) -> tuple[Place, str]:
    return (case.place, computed_in(parity.effective, case.way.precision))


def datasheet_peak(plan: Plan, case: Case) -> float | None:
    """The dense peak FLOP/s of a case's devices; None unless it is known and equal for all."""
    rules = plan.device_rules.get(case.place.device)
    if rules is None:
        return None
    devices = plan.machine.get("accelerators") or ()
    peaks = {rules.peak_of(one, case.way.precision) for one in devices}
    peak = peaks.pop() if len(peaks) == 1 else None
    return None if peak is None else peak * case.place.num_devices
