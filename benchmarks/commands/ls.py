"""`dyno ls`: what is here to measure with, and why not."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.commands.selection import add_extend_argument, add_store_argument
from benchmarks.contract.case import Option
from benchmarks.contract.workload import Values
from benchmarks.errors import EXIT_NOTHING, EXIT_OK

EXAMPLES = """examples:
  dyno ls frameworks                      versions and devices, or why a framework is not there
  dyno ls workloads --json                one JSON document on stdout
  dyno ls runs --store results/runs"""

SCHEMA = "dyno.ls/1"

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("kind", choices=sorted(KINDS), help="what to list")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    add_store_argument(parser)
    add_extend_argument(parser)


def run(args: argparse.Namespace) -> int:
    """List one kind of thing; exit code 5 where there is none."""
    rows = KINDS[args.kind](args)
    if args.json:
        document = {"schema": SCHEMA, "kind": args.kind, "rows": rows}
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(rows))
    if not rows:
        sys.stderr.write(f"there are no {args.kind} stored yet\n")
    return EXIT_OK if rows else EXIT_NOTHING


def _frameworks(args: argparse.Namespace) -> list[Row]:
    """Each framework with what a probe saw, or why it is not installed."""
    from benchmarks.contract.plan import MachineConfig
    from benchmarks.planning.catalog import discover
    from benchmarks.planning.interpreters import resolve

    catalog = discover(args.extend)
    found = resolve(catalog, MachineConfig(), catalog.frameworks)
    rows = []
    for name, entry in catalog.frameworks.items():
        interpreter = found[name]
        reason = interpreter if isinstance(interpreter, str) else interpreter.probe_failure
        rows.append(
            {
                "framework": name,
                "installed": reason is None,
                "executions": list(entry.capabilities.executions),
                "devices": {} if isinstance(interpreter, str) else interpreter.devices,
                "versions": {} if isinstance(interpreter, str) else interpreter.versions,
                "reason": reason,
            }
        )
    return rows


def _workloads(args: argparse.Namespace) -> list[Row]:
    """Each workload with its sizes, its own axes and who implements it."""
    from benchmarks.planning.catalog import discover

    catalog = discover(args.extend)
    return [
        {
            "workload": name,
            "version": spec.version,
            "unit": spec.unit,
            "sizes": list(spec.sizes),
            "precisions": list(spec.precisions),
            "options": {
                option: _listed(values)
                for option, values in (*spec.options.items(), *spec.way_options.items())
            },
            "frameworks": [one for workload, one in catalog.implementations if workload == name],
        }
        for name, spec in catalog.specs().items()
    ]


def _listed(values: Values) -> list[Option]:
    """The values of an option; of integers the least and the most, as text."""
    if isinstance(values, range):
        return [f"{values[0]} to {values[-1]}"]
    return list(values)


def _suites(args: argparse.Namespace) -> list[Row]:
    """Each suite of configs/suite/ with its description."""
    from benchmarks.planning import config

    return [
        {"suite": name, "num_matrices": len(suite.matrices), "description": suite.description}
        for name in config.names("suite")
        for suite in [config.read_suite(name)]
    ]


def _runs(args: argparse.Namespace) -> list[Row]:
    """Each run of the store, oldest first."""
    from benchmarks.storage.store import Store

    store = Store(Path(args.store))
    return [
        {
            "run_id": run_id,
            "created_at": plan.created_at,
            "suite": plan.suite,
            "protocol": plan.protocol.name,
            "num_cells": len(plan.cells),
            "num_launches": len(store.records(run_id)),
            "overrides": list(plan.overrides),
        }
        for run_id in store.runs()
        for plan in [store.read_plan(run_id)]
    ]


def _claims(args: argparse.Namespace) -> list[Row]:
    """The documents' sentences: none are stored yet."""
    return []


KINDS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "claims": _claims,
    "frameworks": _frameworks,
    "runs": _runs,
    "suites": _suites,
    "workloads": _workloads,
}


def _lines(rows: list[Row]) -> list[str]:
    from benchmarks.presentation.columns import aligned

    if not rows:
        return []
    titles = [title.removeprefix("num_").replace("_", " ") for title in rows[0]]
    return aligned([titles, *([_text(value) for value in row.values()] for row in rows)])


def _text(value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
