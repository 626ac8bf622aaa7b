"""`dyno prepare`: does ahead what a run would do before it can measure."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.commands import selection
from benchmarks.errors import EXIT_CASE_FAILED, EXIT_OK, worst_exit_code
from benchmarks.presentation.wording import count

if TYPE_CHECKING:
    from benchmarks.contract.plan import CohortPlan

EXAMPLES = """examples:
  dyno prepare                                    for the quick suite: a minute or two
  dyno prepare suite=documents device=cuda        before an hour on a borrowed GPU
Makes the float64 references, exports models and compiles programs, as far as they are missing in
the cache. What compiling and exporting take is stored: the same dyno run goes on from there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    selection.add_override_arguments(parser)
    selection.add_store_argument(parser)
    parser.set_defaults(fresh=False)


def run(args: argparse.Namespace) -> int:
    """Prepare the cells that are to be measured; 3 if a launch fails, 6 if a named one is missing.

    Raises UsageError if an override or a name cannot be used.
    """
    chosen = selection.load(args)
    selection.refuse_only_skips(chosen.plan)
    cohorts = tuple(_first_of_each_case(chosen.plan.cohorts))
    if not cohorts:
        sys.stdout.write("nothing to prepare: every cell has its results\n")
        return selection.exit_code_of_missing(chosen.plan)
    code, num_prepared = _prepare(chosen, cohorts)
    if code in (EXIT_OK, EXIT_CASE_FAILED):
        then = shlex.join(["dyno", "run", *selection.options_of(args), *args.overrides])
        sys.stdout.write(f"{count(num_prepared, 'case')} prepared; next: {then}\n")
    return worst_exit_code([code, selection.exit_code_of_missing(chosen.plan)])


def _first_of_each_case(cohorts: Iterable[CohortPlan]) -> Iterator[CohortPlan]:
    """The cohorts in which a case comes first: each case is prepared once."""
    seen: set[str] = set()
    for cohort in cohorts:
        cases = {launch.case_id for launch in cohort.launches}
        if not cases <= seen:
            yield cohort
        seen |= cases


def _prepare(chosen: selection.Selection, cohorts: tuple[CohortPlan, ...]) -> tuple[int, int]:
    """The exit code, and the number of cases that are prepared."""
    from rich.console import Console

    from benchmarks.host.lock import machine_lock
    from benchmarks.presentation.progress import for_console
    from benchmarks.running.cohort import Run
    from benchmarks.running.listeners import FanOut
    from benchmarks.running.preparation import folders_of, lock_folder
    from benchmarks.running.runner import run as run_cohorts
    from benchmarks.running.stopping import Stopping

    plan, store, stopping = chosen.plan, chosen.store, Stopping()
    progress = FanOut([for_console(Console(stderr=True))])
    with machine_lock(lock_folder(plan.machine_config)):
        store.create_run(plan)
        current = Run(
            *(replace(plan, cohorts=cohorts), chosen.catalog, store, folders_of(plan, store)),
            *(progress, stopping),
            only_prepares=True,
        )
        run_cohorts(current)
    cases = {launch.case_id for cohort in cohorts for launch in cohort.launches}
    failed = EXIT_CASE_FAILED if current.failed else EXIT_OK
    return stopping.exit_code or failed, len(cases - current.failed)
