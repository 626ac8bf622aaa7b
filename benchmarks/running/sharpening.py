"""Decides which cohorts a run measures next: those that settle most comparisons for their seconds.

A comparison is settled once its verdict is decided and its interval is narrow enough. Each time
that results are looked at to decide is counted (`Record.look`), since verdicts become stricter with
every look (`statistics.looks`). Pure: it reads a plan, a summary and records.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from benchmarks.analysis.outlook import max_cohorts
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.settled import DECIDED, is_settled
from benchmarks.analysis.summary import RunSummary, summarise
from benchmarks.contract.plan import Cell, CohortPlan, PartPlan, Plan
from benchmarks.contract.record import WITHOUT_VERDICT, Record
from benchmarks.planning.catalog import Catalog
from benchmarks.planning.cohorts import cohort_of
from benchmarks.presentation.sharpening import said
from benchmarks.presentation.wording import count, way_name
from benchmarks.statistics.effort import cohorts_to_decide
from benchmarks.statistics.looks import level_of_look
from benchmarks.storage.store import Store

TURN = "turn"
"""The phase of a launch in which it takes its turns."""
SHORTEST_S = 0.1
"""Seconds that a stage is taken to last at least."""
MAX_AT_ONCE = 3
"""The most cohorts that are planned from one look."""
NARROWING = 0.15
"""What it is worth to narrow the interval of a comparison whose verdict is decided, as a share of
deciding one."""
MAX_FUTILE = 2
"""Stages without a value for a comparison after which a run measures it no further."""
HOPELESS = 0.1
"""The same for one that will not be settled within the protocol's limit: its interval narrows."""


class Stage(NamedTuple):
    """Cohorts of one part that are planned from one look, and why."""

    part: PartPlan
    case_ids: tuple[str, ...]
    """The cases that are not settled yet."""
    num_cohorts: int
    seconds: float
    """What they are expected to take."""
    worth: float
    """The comparisons that they are expected to settle, for each second."""
    num_rounds: int | None
    """Rounds of each launch that give the narrowest intervals; None: not known."""
    look: int
    """The number of the look from which it is planned."""


def next_stage(
    plan: Plan,
    summary: RunSummary,
    records: Sequence[Record],
    *,
    left_s: float | None = None,
    without: Collection[str] = (),
) -> Stage | None:
    """The stage that is worth most among those that fit into `left_s` seconds; None if none does.

    `records` are those that the summary was made from. The cases `without` are not measured for
    their own sake.
    """
    past = _Past(plan, records)
    fitting = (
        stage
        for part in plan.parts
        for open_ones in [[o for o in unsettled(plan, summary, part) if o.case not in without]]
        for stage in _stages(part, open_ones, past)
        if left_s is None or stage.seconds <= left_s
    )
    return max(fitting, key=lambda stage: stage.worth, default=None)


def unsettled(plan: Plan, summary: RunSummary, part: PartPlan) -> list[CaseRatio]:
    """The comparisons of a part that further cohorts may settle."""
    names = {launch.case_id for launch in part.launches}
    return [
        one
        for one in (*summary.ratios, *summary.costs, *summary.gains)
        if not one.aa
        and {one.case, one.base} <= names
        and one.base in part.companions[one.case]
        and not is_settled(one, target_half_width=plan.protocol.target_half_width)
    ]


def cohorts_of_stage(plan: Plan, stage: Stage, records: Sequence[Record]) -> list[CohortPlan]:
    """The stage's cohorts; each launch makes as many rounds as its seconds are best spent on."""
    past = _Past(plan, records)
    index = past.next_index(plan.run_id, stage.part.index)
    return [
        cohort_of(
            stage.part,
            stage.case_ids,
            plan.run_id,
            index=index + number,
            protocol=plan.protocol,
            look=stage.look,
            num_rounds=stage.num_rounds,
        )
        for number in range(stage.num_cohorts)
    ]


def reopened(plan: Plan, summary: RunSummary, records: Sequence[Record]) -> Plan:
    """The plan, in which the cells of comparisons that are not settled are to be run."""
    past = _Past(plan, records)
    changed: dict[str, Cell] = {}
    for part in plan.parts:
        for one in unsettled(plan, summary, part):
            cell, room = plan.cell(one.case), _room(one, plan)
            if cell.action != "have" or room <= 0 or one.ratio is None:
                continue
            num_further = min(_needed(one, 1, past) or room, room)
            changed[one.case] = replace(
                cell,
                action="run",
                kind=None,
                reason=f"{said(one)} after {count(one.ratio.num_launches, 'cohort')}",
                estimate_s=num_further * past.launch_s(one.case, None),
                estimate_basis=f"{count(num_further, 'more cohort')}",
            )
    cells = tuple(changed.get(cell.case.case_id, cell) for cell in plan.cells)
    return replace(plan, cells=cells)


@dataclass
class _Past:
    """What the records say of the plan's cases."""

    plan: Plan
    records: Sequence[Record]
    _own: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        keys = {cell.result_key: cell.case.case_id for cell in self.plan.cells if cell.result_key}
        for record in self.records:
            if record.result_key in keys and record.status not in WITHOUT_VERDICT:
                self._own[keys[record.result_key]].append(record)

    def launch_s(self, case_id: str, num_rounds: int | None) -> float:
        """What a further launch takes with this number of rounds, or with as many as earlier ones.

        The median, without the first, which proves and compiles; 0 without a launch.
        """
        own = self._own[case_id]
        return statistics.median(
            [_seconds(record, num_rounds) for record in own[1:] or own] or [0.0]
        )

    def next_index(self, run_id: str, part: int) -> int:
        ids = (record.cohort_id.rpartition("/") for record in self.records)
        return 1 + max(
            (int(index) for name, _, index in ids if name == f"{run_id}/{part}"), default=-1
        )


def _seconds(record: Record, num_rounds: int | None) -> float:
    """What a launch took, or would have taken with this number of rounds."""
    in_all, turn_s = sum(record.phases_s.values()), record.phases_s.get(TURN, 0.0)
    past_rounds = len({block.round for block in record.blocks})
    if num_rounds is None or not past_rounds:
        return in_all
    return in_all + turn_s * (num_rounds / past_rounds - 1)


def _room(one: CaseRatio, plan: Plan) -> int:
    """The further cohorts that the protocol allows a comparison."""
    return max_cohorts(plan.protocol) - one.num_cohorts


def _stages(part: PartPlan, open_ones: Sequence[CaseRatio], past: _Past) -> Iterator[Stage]:
    """The stages of one part: each number of cohorts, with what it is worth."""
    rooms = {one.case: _room(one, past.plan) for one in open_ones}
    wanted = [one for one in open_ones if rooms[one.case] > 0]
    if not wanted:
        return
    case_ids = tuple(dict.fromkeys(one.case for one in wanted))
    beside = {*case_ids, *(other for name in case_ids for other in part.companions[name])}
    best_rounds = [one.effort.best_rounds for one in wanted if one.effort]
    known = [number for number in best_rounds if number is not None]
    num_rounds = round(statistics.median(known)) if known else None
    cohort_s = sum(
        past.launch_s(one.case_id, num_rounds) for one in part.launches if one.case_id in beside
    )
    needed = [_needed(one, len(wanted), past) for one in wanted]
    for num in range(1, min(MAX_AT_ONCE, *(rooms[one.case] for one in wanted)) + 1):
        worth = sum(
            _worth(one, num, needed=more, room=rooms[one.case])
            for one, more in zip(wanted, needed, strict=True)
        )
        yield Stage(
            part,
            case_ids,
            num_cohorts=num,
            seconds=num * cohort_s,
            worth=worth / max(num * cohort_s, SHORTEST_S),
            num_rounds=num_rounds,
            look=max(one.last_look for one in wanted) + 1,
        )


def _worth(one: CaseRatio, num_cohorts: int, *, needed: int | None, room: int) -> float:
    """What these cohorts are worth for one comparison: 1 if they decide it."""
    if needed is None or needed > room:
        return HOPELESS * num_cohorts / room
    share = min(1.0, num_cohorts / needed)
    return share * (NARROWING if one.verdict in DECIDED else 1.0)


def _needed(one: CaseRatio, num_open: int, past: _Past) -> int | None:
    """The further cohorts after which a comparison is expected to be settled; None: too many."""
    if one.ratio is None:
        return None
    level = level_of_look(one.last_look + 1) / num_open
    target = past.plan.protocol.target_half_width
    needed = cohorts_to_decide(one.ratio, target_half_width=target, level=level)
    return None if needed is None else max(1, needed)


def in_order_of_worth(plan: Plan) -> tuple[CohortPlan, ...]:
    """The plan's cohorts part by part, those first that give most comparisons for their seconds.

    For a run whose time does not suffice: parts that take turns would all end undecided.
    """
    num_planned = Counter(launch.case_id for one in plan.cohorts for launch in one.launches)

    def seconds(cohort: CohortPlan) -> float:
        cells = [plan.cell(launch.case_id) for launch in cohort.launches]
        return sum((one.estimate_s or 0.0) / num_planned[one.case.case_id] for one in cells)

    parts: dict[str, list[CohortPlan]] = defaultdict(list)
    for cohort in plan.cohorts:
        parts[cohort.cohort_id.rpartition("/")[0]].append(cohort)
    by_worth = sorted(
        parts.values(),
        key=lambda own: (1 - len(own[0].launches)) / max(sum(map(seconds, own)), SHORTEST_S),
    )
    return tuple(cohort for own in by_worth for cohort in own)


class _Tried(NamedTuple):
    """How far a comparison has come by further cohorts."""

    num_values: int
    """Cohorts that counted when the last stage was planned."""
    num_stages: int
    """The stages since their number last grew."""


@dataclass
class Sharpening:
    """Finds the further cohorts of a run from its store, until its time is up."""

    plan: Plan
    catalog: Catalog
    store: Store
    note: Callable[[str], None]
    """Told for people what is measured next and why, or why nothing is."""
    max_time_s: float
    is_limited: bool = False
    """Whether the user gave the time: then no cohort begins that is not expected to end in it."""
    begin_s: float = field(default_factory=time.monotonic)
    _tried: dict[str, _Tried] = field(default_factory=dict)

    @property
    def left_s(self) -> float:
        """Seconds until the time is up."""
        return self.max_time_s - (time.monotonic() - self.begin_s)

    def fits(self, cohort: CohortPlan) -> bool:
        """Whether a cohort may begin; one whose launches never ran here may."""
        past = _Past(self.plan, self._records())
        seconds = [past.launch_s(one.case_id, cohort.num_rounds) for one in cohort.launches]
        if not self.is_limited or 0.0 in seconds or sum(seconds) <= self.left_s:
            return True
        self.note(f"no time for another cohort of {cohort.group_id}")
        return False

    def summary(self) -> RunSummary:
        """The summary of what the store holds."""
        return summarise(self.plan, self._records(), self.catalog.specs())

    def further(self) -> Sequence[CohortPlan]:
        """The cohorts of the next stage; none if every comparison is settled, or time is up."""
        records, summary = self._records(), self.summary()
        open_ones = [one for part in self.plan.parts for one in unsettled(self.plan, summary, part)]
        stage = next_stage(
            *(self.plan, summary, records),
            left_s=self.left_s,
            without=[one.case for one in open_ones if self._is_futile(one)],
        )
        if stage is None:
            if open_ones:
                self.note(f"{count(len(open_ones), 'comparison')} of this run left open")
            return ()
        for one in open_ones:
            if one.case in stage.case_ids:
                self._tried[one.case] = _Tried(len(one.log_ratios), self._num_futile(one) + 1)
        names = ", ".join(way_name(self.plan.cell(name).case) for name in stage.case_ids)
        self.note(
            f"{count(len(open_ones), 'comparison')} open:"
            f" {count(stage.num_cohorts, 'more cohort')} of {stage.part.group_id} for {names}"
        )
        return cohorts_of_stage(self.plan, stage, records)

    def _is_futile(self, one: CaseRatio) -> bool:
        """Whether this run has measured a case further in vain: it fails, or is disturbed."""
        return self._num_futile(one) >= MAX_FUTILE

    def _num_futile(self, one: CaseRatio) -> int:
        """The stages of this run, up to the last one, that added no value to a comparison."""
        tried = self._tried.get(one.case)
        return tried.num_stages if tried and tried.num_values == len(one.log_ratios) else 0

    def _records(self) -> list[Record]:
        return self.store.records(self.plan.run_id if self.plan.fresh else None)
