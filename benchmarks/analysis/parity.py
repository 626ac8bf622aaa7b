"""Whether the cells of a plan computed the same first step, each against its base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.analysis.standing import Standing
from benchmarks.contract.record import Record
from benchmarks.contract.workload import Tolerance, WorkloadSpec
from benchmarks.equivalence.agreement import AGREES, DISAGREES, UNPROVEN, Agreement, agreement


def agreements(
    bases: Mapping[str, str],
    standings: Mapping[str, Standing],
    specs: Mapping[str, WorkloadSpec],
) -> dict[str, Agreement]:
    """For each case_id how its launches agree with the first launch of its base.

    A base agrees when a case of its group agrees with it: alone it proves nothing.
    """
    found = {
        case_id: _agreement(standing, standings.get(bases.get(case_id, case_id)), specs)
        for case_id, standing in standings.items()
    }
    confirmed = {
        bases[case_id]
        for case_id, one in found.items()
        if one.parity == AGREES and bases.get(case_id, case_id) != case_id
    }
    for case_id, one in found.items():
        is_base = bases.get(case_id, case_id) == case_id
        if is_base and case_id not in confirmed and one.parity != DISAGREES:
            found[case_id] = Agreement(UNPROVEN, "no other case agrees with it")
    return found


def _agreement(
    case: Standing, base: Standing | None, specs: Mapping[str, WorkloadSpec]
) -> Agreement:
    reference = _step1(base.records[0]) if base and base.records else None
    return agreement([_step1(record) for record in case.records], reference, _limit(case, specs))


def _limit(case: Standing, specs: Mapping[str, WorkloadSpec]) -> Tolerance | None:
    spec = specs.get(case.cell.case.work.workload)
    return spec.tolerances.get(case.cell.case.way.precision) if spec else None


def _step1(record: Record) -> Mapping[str, Any] | None:
    evidence = record.evidence.get("step1")
    return evidence if isinstance(evidence, Mapping) else None
