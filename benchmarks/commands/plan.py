"""`dyno plan`: what a run would do: the cells, the skips with reasons, the time; runs nothing."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.commands import selection
from benchmarks.errors import (
    EXIT_ENVIRONMENT,
    EXIT_NOTHING,
    EXIT_OK,
    worst_exit_code,
)

if TYPE_CHECKING:
    from benchmarks.contract.plan import Cell, Plan

EXAMPLES = """examples:
  dyno plan                                         the quick suite on this machine
  dyno plan suite=documents protocol=standard device=cuda
  dyno plan framework=all execution=all precision=fp32,bf16 batch_size=8,16
  dyno plan 'batch_size=range(8,65,8)' --json       one JSON document on stdout"""

ACTIONS = ("run", "have", "skip")
SCHEMA = "dyno.plan/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    selection.add_selection_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Show the plan; 5 where nothing runs or is had, 6 where what was named is not there."""
    from benchmarks.planning.planner import missing_named

    plan = selection.load(args).plan
    if args.json:
        text = json.dumps(document(plan), indent=2, allow_nan=False)
    else:
        text = describe(plan, options=selection.options_of(args))
    sys.stdout.write(text + "\n")
    missing = missing_named(plan)
    for reason in missing:
        sys.stderr.write(f"not ready: {reason}\n")
    has_any = any(cell.action != "skip" for cell in plan.cells)
    return worst_exit_code(
        [EXIT_ENVIRONMENT if missing else EXIT_OK, EXIT_OK if has_any else EXIT_NOTHING]
    )


def document(plan: Plan) -> dict[str, Any]:
    """The `dyno.plan/1` document; a missing number is null."""
    counts = Counter(cell.action for cell in plan.cells)
    return {
        "schema": SCHEMA,
        "run_id": plan.run_id,
        "suite": plan.suite,
        "protocol": plan.protocol.name,
        "cells": [_cell_json(cell) for cell in plan.cells],
        "counts": {action: counts[action] for action in ACTIONS},
        "num_groups": len({cohort.group_id for cohort in plan.cohorts}),
        "num_cohorts": len(plan.cohorts),
        "estimate_s": plan.estimate_s,
    }


def describe(plan: Plan, *, options: Sequence[str] = ()) -> str:
    """The plan for a terminal: counts, cells by what is done and why, cohorts, time.

    `options` stand in the command that starts it, beside the overrides.
    """
    start = shlex.join(["dyno", "run", *options, *plan.overrides])
    return "\n".join([*_headline(plan), *_table(plan.cells), *_outlook(plan, start)])


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "case_id": cell.case.case_id,
        **cell.case.axes(),
        "action": cell.action,
        "kind": cell.kind,
        "reason": cell.reason,
        "estimate_s": cell.estimate_s,
        "estimate_basis": cell.estimate_basis,
        "memory_bytes": cell.memory_bytes,
    }


def _headline(plan: Plan) -> Iterator[str]:
    from benchmarks.presentation.wording import count

    counts = Counter(cell.action for cell in plan.cells)
    yield (
        f"{count(len(plan.cells), 'cell')}: {counts['run']} to run, {counts['have']} measured"
        f" already, {counts['skip']} skipped (suite {plan.suite}, protocol {plan.protocol.name})"
    )


def _table(cells: Iterable[Cell]) -> list[str]:
    """One line for the cells of a framework that share work, options, action and reason."""
    from benchmarks.presentation.columns import aligned
    from benchmarks.presentation.wording import framework_name, group_name, way_options

    lines: dict[tuple[str, ...], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: ACTIONS.index(cell.action)):
        options = " ".join(way_options(cell.case))
        key = (
            *(cell.action, framework_name(cell.case), group_name(cell.case)),
            *(options, cell.reason or ""),
        )
        lines.setdefault(key, []).append(cell)
    return aligned(
        [
            (
                action,
                framework,
                group,
                ",".join(dict.fromkeys(cell.case.way.execution for cell in own)),
                ",".join(dict.fromkeys(cell.case.way.precision for cell in own))
                + (f" {options}" if options else ""),
                _why(own[0]),
            )
            for (action, framework, group, options, _), own in lines.items()
        ],
        indent="  ",
    )


def _why(cell: Cell) -> str:
    if cell.action == "skip":
        return f"{str(cell.kind).replace('_', ' ')}: {cell.reason}"
    return cell.reason or ""


def _outlook(plan: Plan, start: str) -> Iterator[str]:
    """How much there is to do, how long it will take and from what that is known."""
    from benchmarks.presentation.wording import count

    seconds = plan.estimate_s
    if seconds is None:
        yield "Nothing is left to run"
        return
    num_launches = sum(len(cohort.launches) for cohort in plan.cohorts)
    num_groups = len({cohort.group_id for cohort in plan.cohorts})
    bases = Counter(cell.estimate_basis for cell in plan.cells if cell.estimate_basis)
    basis = ", ".join(f"{basis} for {count(n, 'cell')}" for basis, n in bases.items())
    yield (
        f"{count(len(plan.cohorts), 'cohort')} of {count(num_groups, 'group')},"
        f" {count(num_launches, 'launch')}, about {duration(seconds)} ({basis})"
    )
    yield f"Nothing was run. Start:  {start}"


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
