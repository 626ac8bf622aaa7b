"""The status of each cell of a plan, and the records that count for it.

A repeated run retries failures. A failure counts until newer launches of the same identity follow;
then only those count. Records of `interrupted` and `disturbed` launches never count. Newer is what
was appended to the store later, whatever the clock said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.contract.plan import Cell, Plan
from benchmarks.contract.record import WITHOUT_VERDICT, Record


@dataclass(frozen=True)
class Outcome:
    """A cell's status with its launches."""

    cell: Cell
    status: str
    """A status of records, or the plan's reason for a cell that was not launched."""
    reason: str | None = None
    log: str | None = None
    """Output of the launch that failed, relative to the store."""
    records: tuple[Record, ...] = ()
    """The launches that are ok, or all that are unproven, oldest first, replicas included.

    Those that only compiled or exported are among them, for their cold start and their proof.
    """

    @property
    def is_ok(self) -> bool:
        """Whether the cell's numbers may be compared."""
        return self.status == "ok"

    def launches(self, replica: int = 0) -> list[Record]:
        """The launches of one replica that took turns, oldest first."""
        return [one for one in self.records if one.replica == replica and not one.only_prepared]


def outcomes(plan: Plan, records: Iterable[Record]) -> dict[str, Outcome]:
    """The outcome of each case_id of the plan, in the plan's order.

    The records are in the order in which they were appended (`Store.records`).
    """
    by_key: Mapping[str, list[Record]] = defaultdict(list)
    for record in records:
        if not plan.fresh or record.run_id == plan.run_id:
            by_key[record.result_key].append(record)
    return {
        cell.case.case_id: outcome(cell, by_key[cell.result_key] if cell.result_key else [])
        for cell in plan.cells
    }


def outcome(cell: Cell, records: Sequence[Record]) -> Outcome:
    """The outcome of one cell, from all records with its result_key, in their order."""
    finished = [record for record in records if record.status not in WITHOUT_VERDICT]
    if not any(map(_counts, finished)):
        return _unmeasured(cell, [one for one in records if one.status in WITHOUT_VERDICT])
    failed = [i for i, record in enumerate(finished) if record.status not in ("ok", "unproven")]
    if not failed:
        return _measured(cell, finished)
    last = finished[failed[-1]]
    later = finished[failed[-1] + 1 :]  # a replica in the failure's own cohort is no new attempt
    retried = tuple(record for record in later if _cohort(record) != _cohort(last))
    if any(map(_counts, retried)):
        return _measured(cell, retried)
    return Outcome(
        cell,
        status=last.status,
        reason=last.reason or f"ended in phase {last.phase}",
        log=f"{last.run_id}/{last.log}" if last.log else None,
        records=tuple(record for record in finished if record.status == "ok"),
    )


def _measured(cell: Cell, records: Sequence[Record]) -> Outcome:
    """The outcome without failures: unproven launches keep their numbers, and are not compared.

    Proven launches replace unproven ones, for instance after a second framework was installed.
    """
    proven = tuple(record for record in records if record.status == "ok")
    if proven:
        return Outcome(cell, "ok", records=proven)
    return Outcome(cell, "unproven", records[-1].reason, records=tuple(records))


def _counts(record: Record) -> bool:
    """Whether a launch says more than that a compile cache was filled."""
    return not record.only_prepared or record.status != "ok"


def _cohort(record: Record) -> tuple[str, str]:
    return record.run_id, record.cohort_id


def _unmeasured(cell: Cell, without_verdict: Sequence[Record]) -> Outcome:
    if cell.action == "skip":
        return Outcome(cell, cell.kind or "unsupported", cell.reason)
    last = without_verdict[-1] if without_verdict else None
    reason = (last.reason if last else None) or "not measured yet; the same command continues"
    log = f"{last.run_id}/{last.log}" if last and last.log else None
    return Outcome(cell, last.status if last else "interrupted", reason, log)
