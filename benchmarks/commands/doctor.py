"""`dyno doctor`: what can be measured here, what would spoil it, and how to put it right.

It changes nothing: probes are not kept, and the machine's lock is looked at, not taken.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import benchmarks
from benchmarks.contract.plan import Interpreter, MachineConfig
from benchmarks.contract.units import in_gib
from benchmarks.errors import EXIT_ENVIRONMENT, EXIT_OK
from benchmarks.host.compiler import INSTALL_HINT, find_compiler
from benchmarks.host.readiness import Finding, findings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.contract.framework import Capabilities

SCHEMA = "dyno.doctor/1"


@dataclass(frozen=True)
class FrameworkReport:
    """One framework on this machine."""

    name: str
    usable: bool
    reason: str | None
    """Why it cannot be used, and what to do."""
    python: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)
    needs_compiler: tuple[str, ...] = ()
    """Executions that are left out because there is no C++ compiler."""


@dataclass(frozen=True)
class Report:
    """Everything that the command found."""

    dyno: str
    frameworks: tuple[FrameworkReport, ...]
    machine: dict[str, Any]
    state: dict[str, Any]
    compiler: str | None
    findings: tuple[Finding, ...]
    schema: str = SCHEMA

    @property
    def num_usable(self) -> int:
        """Frameworks that can be measured."""
        return sum(framework.usable for framework in self.frameworks)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options and examples."""
    parser.description = "Show what can be measured here, what would spoil it, and what to do."
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
    """Print the report; exit code 6 where no framework at all can be used."""
    report = examine(args.extend)
    if args.json:
        print(json.dumps(asdict(report), indent=2, allow_nan=False))  # noqa: T201 - its result
    else:
        _show(report)
    return EXIT_OK if report.num_usable else EXIT_ENVIRONMENT


def examine(extensions: Iterable[Path] = ()) -> Report:
    """What is found on this machine, for every framework in the catalog."""
    from benchmarks.host import lock, machine
    from benchmarks.planning import catalog, interpreters
    from benchmarks.running.preparation import lock_folder

    config = MachineConfig()
    identity, state = machine.fingerprint(), machine.state()  # before the probes make a load
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
    if isinstance(found, str):
        return FrameworkReport(name, usable=False, reason=found)
    if found.probe_failure:
        return FrameworkReport(name, usable=False, reason=found.probe_failure, python=found.python)
    lacking = {
        f"{execution} on {device}"
        for execution, device in capabilities.needs_compiler
        if device in found.devices and not has_compiler
    }
    return FrameworkReport(
        name,
        usable=True,
        reason=None,
        python=found.python,
        versions=found.versions,
        devices=found.devices,
        needs_compiler=tuple(sorted(lacking)),
    )


def _show(report: Report) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    console.print(f"dyno {report.dyno} · {describe_machine(report.machine)}", markup=False)
    console.print(_frameworks_table(report.frameworks))
    _show_findings(console, report)
    total = len(report.frameworks)
    console.print(f"Ready: {report.num_usable} of {total} frameworks", markup=False)
    if report.num_usable:
        console.print("Next:  dyno plan", markup=False)
    else:
        console.print("Next:  scripts/setup", markup=False)


def describe_machine(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    devices = [str(device.get("name")) for device in machine["accelerators"]]
    parts = [
        f"{machine['os']} {machine['architecture']}",
        str(machine["cpu"] or "unknown CPU"),
        f"{machine['num_cores']} cores",
        in_gib(machine["memory_bytes"]),
        ", ".join(devices) or "no accelerator",
    ]
    return " · ".join(parts)


def _frameworks_table(reports: Iterable[FrameworkReport]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("framework", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("devices", no_wrap=True)
    table.add_column("versions, or what is missing", overflow="fold")
    for report in reports:
        devices = ", ".join(f"{n}x {name}" for name, n in report.devices.items()) or "-"
        state = "ok" if report.usable else "missing"
        table.add_row(*(Text(_clean(x)) for x in (report.name, state, devices, _remark(report))))
    return table


def _remark(report: FrameworkReport) -> str:
    if report.reason:
        return report.reason
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    if not report.needs_compiler:
        return versions
    return f"{versions}; no C++ compiler: cannot do {', '.join(report.needs_compiler)}"


def _show_findings(console: Console, report: Report) -> None:
    warnings = [finding for finding in report.findings if finding.severity == "warn"]
    if not warnings:
        console.print("ok    nothing seen that would spoil a measurement", markup=False)
    for finding in report.findings:
        hint = f"\n      -> {finding.hint}" if finding.hint else ""
        console.print(f"{finding.severity:<5} {_clean(finding.what)}{hint}", markup=False)
    if report.compiler is None:
        console.print(f"note  no C++ compiler was found\n      -> {INSTALL_HINT}", markup=False)


def _clean(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)
