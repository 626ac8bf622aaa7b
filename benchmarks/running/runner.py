"""The run: measures cohort after cohort; each launch becomes one record in the store."""

from __future__ import annotations

import itertools
import random
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from benchmarks.contract.case import Case, Place
from benchmarks.contract.evidence import Proven, Tested
from benchmarks.contract.message import LaunchRequest
from benchmarks.contract.plan import CohortPlan, LaunchPlan, Plan
from benchmarks.contract.record import DISTURBED, SERIAL, WITHOUT_VERDICT, Record
from benchmarks.contract.units import in_gib
from benchmarks.host.machine import effective_cores, total_memory_bytes
from benchmarks.planning.catalog import Catalog
from benchmarks.presentation.wording import count
from benchmarks.running.guard import Guard
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch
from benchmarks.running.listeners import Listener
from benchmarks.running.oracles import Oracles
from benchmarks.running.preparation import (
    DataError,
    Folders,
    command_of,
    launch_of,
    prepare_data,
)
from benchmarks.running.process import Worker
from benchmarks.running.prover import ProofStoppedError, prover_of
from benchmarks.running.recording import record_of
from benchmarks.running.references import References, references_of
from benchmarks.running.rounds import Rounds, take_rounds
from benchmarks.running.stopping import StopNowError, Stopping
from benchmarks.storage.store import Store

MAX_IMPORTS = 4
"""Largest number of launches that import at the same time; the cores limit it too."""
MIN_ROUNDS_KEPT = 3
"""Least number of rounds with which a launch counts if the run was stopped early."""


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


def run(current: Run) -> None:
    """Measure every cohort, and store the records; the caller holds the machine's lock."""
    with Guard() as guard, current.stopping:
        num_cohorts = len(current.plan.cohorts)
        what = f"{count(num_cohorts, 'cohort')} to measure"
        if not num_cohorts:
            what = "undecided comparisons to measure further"
        current.progress.begin(num_cohorts, current.plan.estimate_s, what=what)
        references = _references(current, guard)
        try:
            cohorts = _cohorts(current)
            for index, cohort in enumerate(cohorts):
                _run_cohort(_Cohort(current, cohort, guard, references), index)
        except ProofStoppedError:
            current.progress.note("stopped during a proof, before any launch of its cohort")
        except StopNowError:
            current.progress.note("stopped now; all finished launches are kept")
        finally:
            current.progress.end()


def _cohorts(current: Run) -> Iterator[CohortPlan]:
    """The cohorts of the plan, then further ones, until a stop is requested or none is left."""
    yield from _fitting(current, current.plan.cohorts)
    while not current.stopping.requested:
        if not (yield from _fitting(current, current.further())):
            return


def _fitting(current: Run, cohorts: Sequence[CohortPlan]) -> Generator[CohortPlan, None, int]:
    """Those of these cohorts that end in time, until a stop is requested; returns their number."""
    num_begun = 0
    for cohort in cohorts:
        if current.stopping.requested:
            break
        if current.fits(cohort):
            num_begun += 1
            yield cohort
    return num_begun


def _references(current: Run, guard: Guard) -> References:
    prover = prover_of(
        current.plan,
        current.catalog,
        folders=current.folders,
        guard=guard,
        stopping=current.stopping,
        on_phase=current.progress.phase,
    )
    return references_of(Oracles(prover, current.progress.note))


@dataclass
class _Cohort:
    """A cohort that is being measured."""

    run: Run
    plan: CohortPlan
    guard: Guard
    references: References
    lives: list[tuple[LaunchPlan, SupervisedLaunch]] = field(default_factory=list)
    """The launches started so far among those that are to be alive at once, in order."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Yields a new number for each started launch of the cohort."""
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
        self.begun.update(left)
        return left


def _run_cohort(cohort: _Cohort, index: int) -> None:
    current, plan = cohort.run, cohort.plan
    launches = cohort.not_failed(plan.launches)
    if not launches:
        return
    title = plan.group_id + (", one after another" if plan.resident == SERIAL else "")
    current.progress.cohort(index, title, [launch.case_id for launch in launches])
    for launch in launches:  # before any launch is alive, which a proof would disturb
        if current.stopping.requested:
            return
        cohort.references.of(current.case(launch))
    for at_once in plan.alive_at_once:
        if launches := cohort.worth_launching(at_once):
            _run_at_once(cohort, launches)


def _run_at_once(cohort: _Cohort, launches: list[LaunchPlan]) -> None:
    """Start launches that are alive at the same time, measure them, and store their records."""
    current, plan = cohort.run, cohort.plan
    random.Random(plan.seed).shuffle(launches)  # noqa: S311 - an order, no secret
    cohort.lives = []
    with _recorded(cohort):
        _import(cohort, launches)
        _prepare_all(cohort)
        ready = [live for _, live in cohort.lives if live.is_alive]
        if ready and not current.stopping.requested:
            rules = current.plan.device_rules[ready[0].launch.settings.device]
            rounds = Rounds(current.plan.protocol, rules, plan.seed, plan.num_rounds)
            take_rounds(ready, rounds, stopping=current.stopping, progress=current.progress)
        _finish(cohort)


@contextmanager
def _recorded(cohort: _Cohort) -> Iterator[None]:
    """In any case, reap every started launch and store its record on leaving."""
    try:
        yield
    finally:
        stopping = cohort.run.stopping
        with stopping.held(), ExitStack() as all_of_them:  # all callbacks run, even if one raises
            for launch, live in cohort.lives:
                all_of_them.callback(_record, cohort, launch, live)


def _record(cohort: _Cohort, launch: LaunchPlan, live: SupervisedLaunch) -> None:
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
    _note_proof(current, record)
    if record.status not in ("ok", *WITHOUT_VERDICT):
        current.failed.add(launch.case_id)
    shutil.rmtree(live.launch.settings.scratch_folder, ignore_errors=True)


def _note_proof(current: Run, record: Record) -> None:
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


def _import(cohort: _Cohort, launches: Sequence[LaunchPlan]) -> None:
    """Start every launch and let it import its framework, a few at a time: nothing is timed yet.

    Later a launch has the machine to itself during its preparation, parts of which are timed. Nor
    would its first steps gain by company: threads that wait for each other at every operation take
    twenty times as long if other work keeps one of them from its core.
    """
    importing: deque[SupervisedLaunch] = deque()
    width = min(MAX_IMPORTS, effective_cores())
    for launch in launches:
        if cohort.run.stopping.requested:
            return
        if len(importing) == width:
            _await_import(importing.popleft())
        importing.append(_started(cohort, launch))
    for live in importing:
        _await_import(live)


def _await_import(live: SupervisedLaunch) -> None:
    if live.is_alive:
        with suppress(LaunchEndedError):
            live.await_import()


def _started(cohort: _Cohort, launch: LaunchPlan) -> SupervisedLaunch:
    """Start a launch and add it to the cohort's lives; it imports its framework, or has failed."""
    current = cohort.run
    case = current.case(launch)
    launch_id = f"{cohort.plan.cohort_id.replace('/', '-')}-{next(cohort.numbers)}"
    proven = current.proven.get(case.case_id)
    message = launch_of(
        current.plan,
        current.catalog,
        case,
        launch_id=launch_id,
        folders=current.folders,
        num_resident=len(cohort.plan.alive_at_once[0]),
        oracle=cohort.references.of(case).oracle,
        tested=current.tested.get(Tester.of(case)),
        proven=proven,
        may_be_cold=case.case_id in current.cold,
    )
    live = _live(cohort, message, launch_id)
    cohort.lives.append((launch, live))
    limit_s = current.plan.protocol.timeout_s("load")
    try:
        prepare_data(current.catalog, case.work, current.folders, timeout_s=limit_s)
        live.start()
    except DataError as error:
        live.fail("crashed", str(error))
    except LaunchEndedError:
        pass
    return live


def _prepare_all(cohort: _Cohort) -> None:
    """Prepare every launch, and launch some once more.

    One that was disturbed, as the load may end; and one that only compiled, as its cache is filled.
    """
    current = cohort.run
    for launch, live in list(cohort.lives):
        may_be_disturbed = True
        _prepare(cohort, launch, live)
        while _has_only_compiled(live) or (may_be_disturbed and _was_disturbed(live)):
            if current.stopping.requested:
                return
            if _was_disturbed(live):
                may_be_disturbed = False
                current.progress.note(f"{launch.case_id}: disturbed, launched again")
            live = _started(cohort, launch)
            _await_import(live)
            _prepare(cohort, launch, live)


def _prepare(cohort: _Cohort, launch: LaunchPlan, live: SupervisedLaunch) -> None:
    """Prepare a launch until it waits for turns, or fails.

    One that takes no turns, because it filled its compile cache, is finished and recorded at once.
    """
    current = cohort.run
    if not live.is_alive or current.stopping.requested:
        return
    with suppress(LaunchEndedError):
        live.prepare()
        assert live.ready is not None
        if not live.ready.cold_cache:
            current.cold.discard(launch.case_id)
            return
        current.cold.add(launch.case_id)
        if live.ready.takes_turns:
            note = "compiled again, so that its cache is not kept: it is timed all the same"
            current.progress.note(f"{launch.case_id}: {note}")
            return
        live.finish()
        with current.stopping.held():
            cohort.lives.remove((launch, live))
            _record(cohort, launch, live)


def _has_only_compiled(live: SupervisedLaunch) -> bool:
    """Whether a launch has ended well without turns."""
    return live.finished is not None and live.ready is not None and not live.ready.takes_turns


def _was_disturbed(live: SupervisedLaunch) -> bool:
    return live.failure is not None and live.failure.status == DISTURBED


def _live(cohort: _Cohort, message: LaunchRequest, launch_id: str) -> SupervisedLaunch:
    current, case = cohort.run, message.case
    python = current.plan.interpreters[case.way.framework].python
    command = command_of(python, current.catalog, message, launch_id, current.folders)
    live = SupervisedLaunch(
        launch=message,
        launch_id=launch_id,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        worker=Worker(command, cohort.guard),
        tick=lambda: _tick(cohort, live),
        on_phase=lambda phase: current.progress.phase(case.case_id, phase),
    )
    return live


def _tick(cohort: _Cohort, running: SupervisedLaunch) -> None:
    """Check memory and requests to stop; above the memory limit the largest launch fails."""
    current = cohort.run
    sizes = [(live.worker.resident_bytes(), live) for _, live in cohort.lives if live.is_alive]
    resident = sum(size for size, _ in sizes)
    if resident > current.memory_limit_bytes:
        _, largest = max(sizes, key=lambda pair: pair[0])
        ended = largest.fail(
            "oom_host",
            f"the launches alive together took {in_gib(resident)},"
            f" more than the limit of {in_gib(current.memory_limit_bytes)}",
        )
        if largest is running:
            raise ended
    if current.stopping.requested and running.ready is None:
        raise running.interrupt("the run was stopped while this launch was being prepared")


def _finish(cohort: _Cohort) -> None:
    """Finish every launch with enough rounds; interrupt the others."""
    protocol = cohort.run.plan.protocol
    for _, live in cohort.lives:
        if not live.is_alive:
            continue
        if len({one.round for one in live.blocks}) < min(MIN_ROUNDS_KEPT, protocol.min_rounds):
            live.interrupt("the run was stopped before enough rounds were measured")
            continue
        try:
            live.finish()
        except LaunchEndedError:
            continue
