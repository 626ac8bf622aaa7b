"""How the launches of a cohort come to wait for turns: started, imported, and prepared."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from benchmarks.contract.message import LaunchRequest
from benchmarks.contract.plan import LaunchPlan
from benchmarks.contract.record import DISTURBED
from benchmarks.contract.units import in_gib
from benchmarks.host.machine import effective_cores
from benchmarks.running.cohort import Cohort, Tester, record_launch
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch
from benchmarks.running.preparation import DataError, command_of, launch_of, prepare_data
from benchmarks.running.process import Worker

MAX_IMPORTS = 4
"""Largest number of launches that import at the same time; the cores limit it too."""


def import_all(cohort: Cohort, launches: Sequence[LaunchPlan]) -> None:
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


def _started(cohort: Cohort, launch: LaunchPlan) -> SupervisedLaunch:
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
        only_prepares=current.only_prepares,
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


def prepare_all(cohort: Cohort) -> None:
    """Prepare every launch, and launch some once more.

    One that was disturbed, as the load may end; and one that only compiled, as its cache is filled.
    """
    current = cohort.run
    for launch, live in list(cohort.lives):
        may_be_disturbed = True
        _prepare(cohort, launch, live)
        while (_has_only_prepared(live) and not current.only_prepares) or (
            may_be_disturbed and _was_disturbed(live)
        ):
            if current.stopping.requested:
                return
            if _was_disturbed(live):
                may_be_disturbed = False
                current.progress.note(f"{launch.case_id}: disturbed, launched again")
            live = _started(cohort, launch)
            _await_import(live)
            _prepare(cohort, launch, live)


def _prepare(cohort: Cohort, launch: LaunchPlan, live: SupervisedLaunch) -> None:
    """Prepare a launch until it waits for turns, or fails.

    One that takes no turns is finished and recorded at once: it filled its compile cache, or this
    run times nothing.
    """
    current = cohort.run
    if not live.is_alive or current.stopping.requested:
        return
    with suppress(LaunchEndedError):
        live.prepare()
        assert live.ready is not None
        (current.cold.add if live.ready.cold_cache else current.cold.discard)(launch.case_id)
        if live.ready.takes_turns:
            if live.ready.cold_cache:
                note = "compiled again, so that its cache is not kept: it is timed all the same"
                current.progress.note(f"{launch.case_id}: {note}")
            return
        live.finish()
        with current.stopping.held():
            cohort.lives.remove((launch, live))
            record_launch(cohort, launch, live)


def _has_only_prepared(live: SupervisedLaunch) -> bool:
    """Whether a launch has ended well without turns."""
    return live.finished is not None and live.ready is not None and not live.ready.takes_turns


def _was_disturbed(live: SupervisedLaunch) -> bool:
    return live.failure is not None and live.failure.status == DISTURBED


def _live(cohort: Cohort, message: LaunchRequest, launch_id: str) -> SupervisedLaunch:
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


def _tick(cohort: Cohort, running: SupervisedLaunch) -> None:
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
