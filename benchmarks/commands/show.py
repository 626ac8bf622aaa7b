"""`dyno show`: prints the table of a run, by default of the last one, or its JSON document."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.commands.selection import (
    add_extend_argument,
    add_output_arguments,
    add_store_argument,
)
from benchmarks.errors import EXIT_CASE_FAILED, EXIT_OK, NothingSelectedError

if TYPE_CHECKING:
    from benchmarks.analysis.metrics import Metric
    from benchmarks.analysis.summary import RunSummary
    from benchmarks.contract.plan import Plan
    from benchmarks.planning.catalog import Catalog
    from benchmarks.storage.store import Store

EXAMPLES = """examples:
  dyno show                               the last run
  dyno show --notes                       with everything that is known of its numbers
  dyno show --json                        one JSON document on stdout
  dyno ls runs                            the stored runs"""


class Output(NamedTuple):
    """How a run is printed."""

    as_json: bool = False
    all_notes: bool = False
    """Whether everything that is known of its numbers is told below the tables."""
    logs: str = ""
    """The folder to print before the names of logs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "run_id", metavar="RUN", nargs="?", help="a run of the store (default: last)"
    )
    add_output_arguments(parser)
    add_store_argument(parser)
    add_extend_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Show a run and return the exit code: 3 if a launched case is not ok.

    Raises NothingSelectedError if the store has no such run.
    """
    from benchmarks.storage.store import Store

    store = Store(Path(args.store))
    plan = store.read_plan(args.run_id or _last_run(store))
    from benchmarks.planning.catalog import discover

    catalog, output = discover(args.extend), Output(args.json, args.notes, logs=args.store)
    return show_plan(plan, store, catalog, output=output)


def show_plan(plan: Plan, store: Store, catalog: Catalog, *, output: Output) -> int:
    """Print the results of a plan on stdout, and return the exit code.

    All records with the plan's result_keys count; if the plan is fresh, only those of its own run.
    """
    from benchmarks.analysis.summary import summarise

    metrics = metrics_of(plan, catalog)
    records = store.records(plan.run_id if plan.fresh else None)
    summary = summarise(plan, records, catalog.specs(), metrics=metrics)
    _print(summary, output)
    return EXIT_CASE_FAILED if summary.has_failures else EXIT_OK


def metrics_of(plan: Plan, catalog: Catalog) -> tuple[Metric, ...]:
    """The metrics of a plan's results; UsageError if one of an extension cannot be shown."""
    from benchmarks.analysis.metrics import with_extensions
    from benchmarks.documents.run import has_key

    cases = [cell.case for cell in plan.cells]
    return with_extensions(catalog.metrics, is_taken=lambda key: has_key(key, cases))


def _print(summary: RunSummary, output: Output) -> None:
    if output.as_json:
        from benchmarks.documents.encoding import to_text
        from benchmarks.documents.run import document

        sys.stdout.write(to_text(document(summary)) + "\n")
        return
    from benchmarks.presentation.terminal import console_for, render_summary

    console = console_for(sys.stdout)
    render_summary(summary, console, store=output.logs, all_notes=output.all_notes)


def _last_run(store: Store) -> str:
    runs = store.runs()
    if not runs:
        raise NothingSelectedError(f"there is no run in {store.folder}", "measure one: dyno run")
    return runs[-1]
