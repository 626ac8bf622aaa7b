"""`dyno ls`: lists workloads, frameworks (or why one is missing), suites, runs and claims."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.commands.selection import add_extend_argument, add_store_argument
from benchmarks.contract.case import Option
from benchmarks.contract.workload import Values
from benchmarks.documents import ls
from benchmarks.errors import EXIT_NOTHING, EXIT_OK

EXAMPLES = """examples:
  dyno ls frameworks                      versions and devices, or why a framework is missing
  dyno ls workloads --json                one JSON document on stdout
  dyno ls runs --store results/runs"""

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("kind", choices=sorted(KINDS), help="what to list")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    add_store_argument(parser)
    add_extend_argument(parser)


def run(args: argparse.Namespace) -> int:
    """List one kind of entry; exit code 5 if there is none."""
    from benchmarks.documents.encoding import to_json, to_text

    listing = KINDS[args.kind](args)
    if args.json:
        sys.stdout.write(to_text(listing) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(to_json(listing.rows)))
    if not listing.rows:
        sys.stderr.write(f"there are no {args.kind} stored yet\n")
    return EXIT_OK if listing.rows else EXIT_NOTHING


def _frameworks(args: argparse.Namespace) -> ls.Frameworks:
    from benchmarks.contract.plan import MachineConfig
    from benchmarks.planning.catalog import discover
    from benchmarks.planning.interpreters import resolve

    catalog = discover(args.extend)
    found = resolve(catalog, MachineConfig(), catalog.frameworks)
    rows = []
    for name, entry in catalog.frameworks.items():
        interpreter = found[name]
        seen = None if isinstance(interpreter, str) else interpreter
        reason = interpreter if isinstance(interpreter, str) else interpreter.probe_failure
        rows.append(
            ls.FrameworkRow(
                name,
                base=entry.capabilities.base,
                installed=reason is None,
                executions=entry.capabilities.executions,
                devices=seen.devices if seen else {},
                versions=seen.versions if seen else {},
                reason=reason,
            )
        )
    return ls.Frameworks(rows=tuple(rows))


def _workloads(args: argparse.Namespace) -> ls.Workloads:
    from benchmarks.planning.catalog import discover

    catalog = discover(args.extend)
    rows = [
        ls.WorkloadRow(
            name,
            version=spec.version,
            unit=spec.unit,
            sizes=tuple(spec.sizes),
            precisions=spec.precisions,
            options={
                option: _listed(values)
                for option, values in (*spec.options.items(), *spec.way_options.items())
            },
            frameworks=tuple(one for own, one in catalog.implementations if own == name),
            tuned={
                framework: entry.rewrites
                for (own, framework), entry in catalog.implementations.items()
                if own == name and entry.rewrites is not None
            },
        )
        for name, spec in catalog.specs().items()
    ]
    return ls.Workloads(rows=tuple(rows))


def _listed(values: Values) -> tuple[Option, ...]:
    if isinstance(values, range):
        return (f"{values[0]} to {values[-1]}",)
    return values


def _suites(args: argparse.Namespace) -> ls.Suites:
    from benchmarks.planning import config

    suites = {name: config.read_suite(name) for name in config.names("suite")}
    return ls.Suites(
        rows=tuple(
            ls.SuiteRow(name, len(suite.matrices), suite.description)
            for name, suite in suites.items()
        )
    )


def _runs(args: argparse.Namespace) -> ls.Runs:
    from benchmarks.storage.store import Store

    store = Store(Path(args.store))
    plans = {run_id: store.read_plan(run_id) for run_id in store.runs()}
    return ls.Runs(
        rows=tuple(
            ls.RunRow(
                run_id,
                created_at=plan.created_at,
                suite=plan.suite,
                protocol=plan.protocol.name,
                num_cells=len(plan.cells),
                num_launches=len(store.records(run_id)),
                overrides=plan.overrides,
            )
            for run_id, plan in plans.items()
        )
    )


def _claims(args: argparse.Namespace) -> ls.Claims:
    return ls.Claims()


KINDS: dict[str, Callable[[argparse.Namespace], ls.Listing]] = {
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
