"""A run and its cohort that is being measured: what both know, and how a launch is recorded."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.contract.case import Case, Place
from benchmarks.contract.evidence import Proven, Tested
from benchmarks.contract.plan import CohortPlan, LaunchPlan, Plan
from benchmarks.contract.record import SERIAL, WITHOUT_VERDICT, Record
from benchmarks.host.machine import total_memory_bytes
from benchmarks.planning.catalog import Catalog
from benchmarks.running.guard import Guard
from benchmarks.running.launch import SupervisedLaunch
from benchmarks.running.listeners import Listener
from benchmarks.running.preparation import Folders, is_prepared
from benchmarks.running.recording import record_of
from benchmarks.running.references import References
from benchmarks.running.stopping import Stopping
from benchmarks.storage.store import Store


class Tester(NamedTuple):
    """What the self-tests of a framework depend on."""

    framework: str
    precision: str
    place: Place

    @classmethod
    def of(cls, case: Case) -> Tester:
        """That of a case."""
        return cls(case.way.framework, case.way.precision, case.place)


@dataclass
class Run:
    """Everything that a run needs, and the cases that have failed in it."""

    plan: Plan
    catalog: Catalog
    store: Store
    folders: Folders
    progress: Listener
    stopping: Stopping
    failed: set[str] = field(default_factory=set)
    """case_ids that failed in this run; they are not launched again in it."""
    further: Callable[[], Sequence[CohortPlan]] = tuple
    """The cohorts to measure once those of the plan are done, from what was seen so far; none ends
    the run."""
    fits: Callable[[CohortPlan], bool] = lambda cohort: True
    """Whether a cohort is expected to end before the user's time limit; else it does not begin."""
    left_s: Callable[[], float] = lambda: 0.0
    """Seconds that are left of the run's time; rounds beyond the protocol's time are made in it."""
    only_prepares: bool = False
    """Whether nothing is timed: references, compiled programs and exported models are made, as far
    as they are missing, for later runs."""
    tested: dict[Tester, Tested] = field(default_factory=dict)
    """What the first launch of each kind that ended ok has shown of its framework."""
    proven: dict[str, Proven] = field(default_factory=dict)
    """By case_id, what its first launch that ended ok has proven: later ones are held to it."""
    cold: set[str] = field(default_factory=set)
    """case_ids whose last launch filled its compile cache: the next one is timed in any case."""

    @property
    def memory_limit_bytes(self) -> int:
        """Bytes that launches which are alive together may take."""
        return self.plan.machine_config.memory_limit_bytes(total_memory_bytes())

    def case(self, launch: LaunchPlan) -> Case:
        """The case of a planned launch."""
        return self.plan.cell(launch.case_id).case


@dataclass
class Cohort:
    """A cohort that is being measured."""

    run: Run
    plan: CohortPlan
    guard: Guard
    references: References
    lives: list[tuple[LaunchPlan, SupervisedLaunch]] = field(default_factory=list)
    """The launches started so far among those that are to be alive at once, in order."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Yields a new number for each started launch of the cohort."""
    end_s: float = 0.0
    """On the clock `time.monotonic`: when its share of the run's time is over."""
    begun: set[LaunchPlan] = field(default_factory=set)
    """Planned launches that were started."""

    def not_failed(self, launches: Sequence[LaunchPlan]) -> list[LaunchPlan]:
        """The launches whose cases have not failed in this run."""
        return [launch for launch in launches if launch.case_id not in self.run.failed]

    def worth_launching(self, launches: Sequence[LaunchPlan]) -> list[LaunchPlan]:
        """The launches that are still useful: their cases have not failed.

        If one case of a serial pair failed, the other is launched only once: its second launch
        serves the comparison alone.
        """
        left = self.not_failed(launches)
        if self.plan.resident == SERIAL and len(self.not_failed(self.plan.launches)) < len(
            self.plan.launches
        ):
            left = [launch for launch in left if launch not in self.begun]
        if self.run.only_prepares:
            left = [launch for launch in left if not self._is_prepared(launch)]
        self.begun.update(left)
        return left

    def _is_prepared(self, launch: LaunchPlan) -> bool:
        current = self.run
        return is_prepared(current.plan, current.catalog, current.case(launch), current.folders)


def record_launch(cohort: Cohort, launch: LaunchPlan, live: SupervisedLaunch) -> None:
    """Reap a launch, and append its record to the store."""
    current = cohort.run
    if live.is_alive:
        live.interrupt("the run was stopped")
    reference = cohort.references.of(current.case(launch))
    if reference.verdict is not None:
        live.evidence.parity = reference.verdict
    record = record_of(current.plan, current.catalog, cohort.plan, launch, live)
    current.store.append(record)
    current.progress.record(record)
    note_proof(current, record)
    if record.status not in ("ok", *WITHOUT_VERDICT):
        current.failed.add(launch.case_id)
    shutil.rmtree(live.launch.settings.scratch_folder, ignore_errors=True)


def note_proof(current: Run, record: Record) -> None:
    """Keep what this launch has shown of its framework and case, if it was the first to do so.

    One without turns has proven its first step alone.
    """
    evidence = record.evidence
    step1, parity = evidence.step1, evidence.parity
    if record.status == "ok" and evidence.fence is not None and evidence.tested_by is None:
        tested = Tested(record.launch_id, evidence.precision, evidence.fence)
        current.tested.setdefault(Tester.of(record.case), tested)
    is_whole = record.status in ("ok", "unproven") and bool(record.blocks)
    if is_whole and step1 is not None and parity is not None:
        proven = Proven(record.launch_id, step1, parity)
        current.proven.setdefault(record.case.case_id, proven)
