"""The report of `dyno doctor` on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box  # noqa: TID253 - works with rich; commands import it when they run
from rich.console import Console  # noqa: TID253 - as above
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above

from benchmarks.contract.units import in_gib
from benchmarks.documents.doctor import FrameworkReport, Report
from benchmarks.host.compiler import INSTALL_HINT
from benchmarks.presentation.wording import after_base, clean


def render_report(report: Report) -> None:
    """Print which frameworks can be measured, what would disturb them, and what to do next."""
    console = Console(highlight=False, soft_wrap=False)
    console.print(f"dyno {report.dyno} · {describe_machine(report.machine)}", markup=False)
    console.print(_frameworks_table(report.frameworks))
    _show_findings(console, report)
    total = len(report.frameworks)
    ready = "Not ready: busy;" if report.is_busy else "Ready:"
    console.print(f"{ready} {report.num_usable} of {total} frameworks", markup=False)
    if report.is_busy and report.num_usable:
        console.print("Next:  stop the other load, then dyno doctor", markup=False)
    elif report.num_usable:
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
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("framework", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("devices", no_wrap=True)
    table.add_column("versions, or what is missing", overflow="fold")
    for report in reports:
        devices = ", ".join(f"{n}x {name}" for name, n in report.devices.items()) or "-"
        state = "ok" if report.usable else "missing"
        name = after_base(report.name, report.base)
        table.add_row(*(Text(clean(x)) for x in (name, state, devices, _remark(report))))
    return table


def _remark(report: FrameworkReport) -> str:
    if report.reason:
        return report.reason
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    if not report.needs_compiler:
        return versions
    return f"{versions}; no C++ compiler: cannot do {', '.join(report.needs_compiler)}"


def _show_findings(console: Console, report: Report) -> None:
    warnings = [finding for finding in report.findings if finding.severity != "note"]
    if not warnings:
        console.print("ok    nothing seen that would disturb a measurement", markup=False)
    for finding in report.findings:
        hint = f"\n      -> {finding.hint}" if finding.hint else ""
        console.print(f"{finding.severity:<5} {clean(finding.what)}{hint}", markup=False)
    if report.compiler is None:
        console.print(f"note  no C++ compiler was found\n      -> {INSTALL_HINT}", markup=False)
