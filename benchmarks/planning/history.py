"""Earlier results in the store: the cohorts that count for each, and the launches' durations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.contract.record import LAUNCHES_PER_CASE, WITHOUT_VERDICT, Record
from benchmarks.host.machine import fingerprint_key
from benchmarks.statistics.ratios import MIN_LAUNCHES


class CohortKey(NamedTuple):
    """The name of a cohort among all runs."""

    run_id: str
    cohort_id: str


class _Launches(NamedTuple):
    """A kind of launches, which are expected to take equally long."""

    case_id: str
    protocol_name: str
    machine_key: str


class History:
    """The launches of earlier runs, read once.

    A failure counts until newer launches of the same identity follow it. From then on only those
    count, as in the analysis. Interrupted and disturbed launches never count.
    """

    def __init__(self, records: Sequence[Record], *, fresh: bool = False) -> None:
        """The history of records in the order in which they were appended (`Store.records`).

        If the plan is fresh, earlier results do not count; launches' durations still do.
        """
        self._counting: dict[str, list[Record]] = {}
        self._seconds: dict[_Launches, list[float]] = defaultdict(list)
        self._last_index: dict[str, int] = {}
        self._broken_parts = {_part(record) for record in records if _has_failed(record)}
        by_key: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            if not record.only_prepared or record.status != "ok":
                by_key[record.result_key].append(record)
                self._note_seconds(record)
            self._note_index(record.cohort_id)
        self._failed: set[str] = set()
        if not fresh:
            self._counting = {key: _counting(found) for key, found in by_key.items()}
            self._failed = {key for key, found in by_key.items() if _ends_failed(found)}

    def cohorts(self, result_key: str | None, replica: int = 0) -> frozenset[CohortKey]:
        """The cohorts in which this launch, or both of a serial cohort, ended ok and counts.

        If the other case of a serial pair has failed, one launch is enough.
        """
        counting = self._counting.get(str(result_key), [])
        own = [record for record in counting if record.replica == replica]
        num_launches = Counter(_cohort(record) for record in own)
        return frozenset(
            _cohort(record)
            for record in own
            if _part(record) in self._broken_parts
            or num_launches[_cohort(record)] >= LAUNCHES_PER_CASE[record.resident]
        )

    def has_failed(self, result_key: str | None) -> bool:
        """Whether the last launches of this identity failed, and none has followed since."""
        return str(result_key) in self._failed

    def last_look(self, result_key: str | None) -> int:
        """How often a verdict on this identity can have been seen: 0 with too few launches for one.

        To ask for more launches after that is a look, as it is when a run measures further.
        """
        if len(self.cohorts(result_key)) < MIN_LAUNCHES:
            return 0
        return max(record.look for record in self._counting[str(result_key)])

    def launch_seconds(self, case_id: str, protocol_name: str, machine_key: str) -> list[float]:
        """The durations in seconds of this case's launches on this machine that ended ok."""
        return self._seconds.get(_Launches(case_id, protocol_name, machine_key), [])

    def next_index(self, run_id: str, part: int) -> int:
        """The first free index of a cohort of this part of a run."""
        return self._last_index.get(f"{run_id}/{part}", -1) + 1

    def _note_seconds(self, record: Record) -> None:
        machine = record.environment.get("machine")
        if record.status == "ok" and record.phases_s and isinstance(machine, dict):
            key = fingerprint_key(machine)
            launches = _Launches(record.case.case_id, record.protocol_name, key)
            self._seconds[launches].append(sum(record.phases_s.values()))

    def _note_index(self, cohort_id: str) -> None:
        part, _, index = cohort_id.rpartition("/")
        if index.isdecimal():
            self._last_index[part] = max(self._last_index.get(part, -1), int(index))


def _ends_failed(records: Iterable[Record]) -> bool:
    finished = [record for record in records if record.status not in WITHOUT_VERDICT]
    return bool(finished) and not _counting(finished)


def _counting(records: Iterable[Record]) -> list[Record]:
    """The launches that ended ok after the last failure, and not in its cohort."""
    finished = [record for record in records if record.status not in WITHOUT_VERDICT]
    failures = [i for i, record in enumerate(finished) if record.status != "ok"]
    if not failures:
        return finished
    last = finished[failures[-1]]
    return [one for one in finished[failures[-1] + 1 :] if _cohort(one) != _cohort(last)]


def _has_failed(record: Record) -> bool:
    return record.status not in ("ok", *WITHOUT_VERDICT)


def _part(record: Record) -> str:
    """The run and the part of its plan; a serial part has two cases, in all of their cohorts."""
    return record.cohort_id.rpartition("/")[0]


def _cohort(record: Record) -> CohortKey:
    return CohortKey(record.run_id, record.cohort_id)
