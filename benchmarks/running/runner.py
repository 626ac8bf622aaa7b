"""The run: measures cohort after cohort; each launch becomes one record in the store."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.contract.plan import CohortPlan, LaunchPlan
from benchmarks.contract.record import SERIAL
from benchmarks.presentation.wording import count
from benchmarks.running.cohort import Cohort, Run, record_launch
from benchmarks.running.guard import Guard
from benchmarks.running.launch import LaunchEndedError
from benchmarks.running.oracles import Oracles
from benchmarks.running.prover import ProofStoppedError, prover_of
from benchmarks.running.references import References, references_of
from benchmarks.running.rounds import Rounds, take_rounds
from benchmarks.running.starting import import_all, prepare_all
from benchmarks.running.stopping import StopNowError
from benchmarks.statistics.ratios import MIN_LAUNCHES

MIN_ROUNDS_KEPT = 3
"""Least number of rounds with which a launch counts if the run was stopped early."""


def run(current: Run) -> None:
    """Measure every cohort, and store the records; the caller holds the machine's lock."""
    with Guard() as guard, current.stopping:
        num_cohorts = len(current.plan.cohorts)
        estimate_s = None if current.only_prepares else current.plan.estimate_s
        current.progress.begin(num_cohorts, estimate_s, what=_work_of(current))
        references = _references(current, guard)
        try:
            cohorts = _cohorts(current)
            for index, cohort in enumerate(cohorts):
                end_s = time.monotonic() + current.left_s() / max(1, num_cohorts - index)
                _run_cohort(Cohort(current, cohort, guard, references, end_s=end_s), index)
        except ProofStoppedError:
            current.progress.note("stopped during a proof, before any launch of its cohort")
        except StopNowError:
            current.progress.note("stopped now; all finished launches are kept")
        finally:
            current.progress.end()


def _work_of(current: Run) -> str:
    """What there is to do in this run, for people."""
    cohorts = current.plan.cohorts
    if current.only_prepares:
        return f"{count(len({one.group_id for one in cohorts}), 'group')} to prepare"
    if not cohorts:
        return "undecided comparisons to measure further"
    return f"{count(len(cohorts), 'cohort')} to measure"


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


def _run_cohort(cohort: Cohort, index: int) -> None:
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


def _run_at_once(cohort: Cohort, launches: list[LaunchPlan]) -> None:
    """Start launches that are alive at the same time, measure them, and store their records."""
    current, plan = cohort.run, cohort.plan
    random.Random(plan.seed).shuffle(launches)  # noqa: S311 - an order, no secret
    cohort.lives = []
    begin_s = time.monotonic()
    with _recorded(cohort):
        import_all(cohort, launches)
        prepare_all(cohort)
        ready = [live for _, live in cohort.lives if live.is_alive]
        if ready and not current.stopping.requested:
            rules = current.plan.device_rules[ready[0].launch.settings.device]
            rounds = Rounds(
                *(current.plan.protocol, rules, plan.seed, plan.num_rounds),
                worthwhile_s=_worthwhile_s(cohort, time.monotonic() - begin_s),
            )
            take_rounds(ready, rounds, stopping=current.stopping, progress=current.progress)
        _finish(cohort)


def _worthwhile_s(cohort: Cohort, launching_s: float) -> float:
    """Seconds for which noisy rounds may go on, within the cohort's share of the run's time.

    As many as launching took: averaging the noise out over more launches would cost them again.
    """
    if cohort.run.plan.protocol.num_cohorts < MIN_LAUNCHES:
        return 0.0
    return min(launching_s, cohort.end_s - time.monotonic())


@contextmanager
def _recorded(cohort: Cohort) -> Iterator[None]:
    """In any case, reap every started launch and store its record on leaving."""
    try:
        yield
    finally:
        stopping = cohort.run.stopping
        with stopping.held(), ExitStack() as all_of_them:  # all callbacks run, even if one raises
            for launch, live in cohort.lives:
                all_of_them.callback(record_launch, cohort, launch, live)


def _finish(cohort: Cohort) -> None:
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
