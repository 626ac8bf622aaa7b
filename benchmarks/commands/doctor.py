"""`dyno doctor`: what can be measured on this machine, what would disturb it, and the remedies.

It changes nothing: probes are not kept, and the machine's lock is read, not taken.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks
from benchmarks.contract.plan import Interpreter, MachineConfig
from benchmarks.documents.doctor import FrameworkReport, Report
from benchmarks.documents.encoding import to_text
from benchmarks.errors import EXIT_ENVIRONMENT, EXIT_OK
from benchmarks.host.compiler import find_compiler
from benchmarks.host.readiness import findings

if TYPE_CHECKING:
    from benchmarks.contract.framework import Capabilities


WATCHED_S = 1.0
"""Seconds for which the load of other processes is watched."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options and examples."""
    parser.description = (
        "Show what can be measured on this machine, what would disturb it, and what to do."
    )
    parser.epilog = "examples:\n  dyno doctor\n  dyno doctor --json"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    parser.add_argument(
        "--extend",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder with further frameworks and workloads",
    )


def run(args: argparse.Namespace) -> int:
    """Print the report; exit code 6 if no framework can be used, or if the machine is busy."""
    report = examine(args.extend)
    if args.json:
        print(to_text(report))  # noqa: T201 - its result
    else:
        from benchmarks.presentation.doctor import render_report

        render_report(report)
    return EXIT_OK if report.is_ready else EXIT_ENVIRONMENT


def examine(extensions: Iterable[Path] = ()) -> Report:
    """The report on this machine and on every framework in the catalog."""
    from benchmarks.host import disturbance, lock, machine
    from benchmarks.planning import catalog, interpreters
    from benchmarks.running.preparation import lock_folder

    config = MachineConfig()
    identity, state = machine.fingerprint(), machine.state()  # before the probes cause load
    state["foreign_cpu_share"] = disturbance.foreign_share(WATCHED_S)
    holder = lock.holder(lock_folder(config))
    known = catalog.discover(tuple(extensions))
    resolved = interpreters.resolve(known, config, known.frameworks, keep=False)
    compiler = find_compiler()
    reports = tuple(
        report_framework(
            known.frameworks[name].capabilities, found, name=name, has_compiler=compiler is not None
        )
        for name, found in resolved.items()
    )
    holders = {
        report.name: report.usable
        for report in reports
        if known.frameworks[report.name].capabilities.holds_oracle
    }
    found = tuple(findings(identity, state, lock_holder=holder, holders=holders))
    return Report(benchmarks.__version__, reports, identity, state, compiler, found)


def report_framework(
    capabilities: Capabilities, found: Interpreter | str, *, name: str, has_compiler: bool
) -> FrameworkReport:
    """One framework's report from its probe."""
    base = capabilities.base
    if isinstance(found, str):
        return FrameworkReport(name, usable=False, reason=found, base=base)
    if found.probe_failure:
        reason = found.probe_failure
        return FrameworkReport(name, usable=False, reason=reason, base=base, python=found.python)
    lacking = {
        f"{execution} on {device}"
        for execution, device in capabilities.needs_compiler
        if device in found.devices and not has_compiler
    }
    return FrameworkReport(
        name,
        usable=True,
        reason=None,
        base=base,
        python=found.python,
        versions=found.versions,
        devices=found.devices,
        needs_compiler=tuple(sorted(lacking)),
    )
