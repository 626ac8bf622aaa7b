"""`dyno parity`: proves equal work, cell by cell, against the float64 oracle."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.commands import selection
from benchmarks.errors import (
    EXIT_CASE_FAILED,
    EXIT_ENVIRONMENT,
    EXIT_NOTHING,
    EXIT_OK,
    worst_exit_code,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contract.plan import Plan
    from benchmarks.contract.record import Record
    from benchmarks.documents.parity import ProvenCell
    from benchmarks.planning.catalog import Catalog

EXAMPLES = """examples:
  dyno parity                                       the cells of the quick suite
  dyno parity size=tiny framework=all execution=all precision=fp64,fp32,bf16
  dyno parity workload=resnet50_train recipe=tuned   does the rewriting keep the mathematics?
  dyno parity framework=mine --extend my_frameworks  does mine do the same work as the others?
fp64 shows mistakes in the mathematics most clearly; the others show their rounding errors."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    selection.add_override_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prove every cell; 3 if one fails, 5 if none was proven, 6 if a named one is not available.

    Raises UsageError if an override or a name cannot be used.
    """
    from benchmarks.planning.catalog import discover
    from benchmarks.planning.planner import PlanRequest, make_plan
    from benchmarks.running.stopping import Stopping

    catalog = discover(args.extend)
    request = PlanRequest(tuple(args.overrides), adds_idiomatic=False)
    plan = make_plan(request, catalog=catalog, store=_NoRuns())
    stopping = Stopping()
    cells = _prove(plan, catalog, stopping)
    _print(cells, as_json=args.json)
    for reason in plan.missing:
        sys.stderr.write(f"not ready: {reason}\n")
    statuses = {cell.verdict.status for cell in cells}
    return stopping.exit_code or worst_exit_code(
        [
            EXIT_CASE_FAILED if "fail" in statuses else EXIT_OK,
            EXIT_NOTHING if statuses <= {"skip"} else EXIT_OK,
            EXIT_ENVIRONMENT if plan.missing else EXIT_OK,
        ]
    )


class _NoRuns:
    """An empty store: earlier measurements do not affect proofs."""

    def runs(self) -> list[str]:
        """No runs."""
        return []

    def read_plan(self, run_id: str) -> Plan:
        """KeyError: there are no runs."""
        raise KeyError(run_id)

    def records(self) -> list[Record]:
        """No records."""
        return []


def _prove(plan: Plan, catalog: Catalog, stopping: Any) -> list[ProvenCell]:
    from rich.console import Console

    from benchmarks.host.lock import machine_lock
    from benchmarks.planning.catalog import PROJECT_ROOT
    from benchmarks.presentation.progress import for_console
    from benchmarks.running.listeners import FanOut
    from benchmarks.running.preparation import Folders, lock_folder
    from benchmarks.running.verification import Verification

    cache = PROJECT_ROOT / plan.machine_config.cache_folder
    folders = Folders(cache=cache, logs=cache / "proofs" / "logs")
    progress = FanOut([for_console(Console(stderr=True))])
    with machine_lock(lock_folder(plan.machine_config)):
        return Verification(plan, catalog, folders, progress, stopping).prove_all()


def _print(cells: Sequence[ProvenCell], *, as_json: bool) -> None:
    if as_json:
        from benchmarks.documents.encoding import to_text
        from benchmarks.documents.parity import document

        sys.stdout.write(to_text(document(cells)) + "\n")
        return
    from benchmarks.presentation.terminal import console_for
    from benchmarks.presentation.verification import render_parity

    render_parity(cells, console_for(sys.stdout))
