"""The lines above a run's tables: which run, on which machine, with which versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.units import GIB
from benchmarks.presentation.wording import clean, count


def headline(summary: RunSummary) -> Iterator[str]:
    """The run, the machine if it is known, and the versions of what was measured."""
    date = summary.created_at[:16].replace("T", " ")
    yield clean(
        f"run {summary.run_id}, {date}Z, suite {summary.suite}, protocol {summary.protocol}"
    )
    for parts in (_machine(summary.machine), _versions(summary)):
        if text := ", ".join(parts):
            yield clean(text)


def _machine(machine: Mapping[str, Any]) -> Iterator[str]:
    if machine.get("cpu"):
        yield str(machine["cpu"])
    if machine.get("num_cores"):
        yield count(int(machine["num_cores"]), "core")
    if machine.get("memory_bytes"):
        yield f"{machine['memory_bytes'] / GIB:.0f} GiB"
    for device in machine.get("accelerators") or []:
        if isinstance(device, Mapping):
            yield str(device.get("name"))
    if machine.get("os"):
        yield f"{machine['os']} {machine.get('kernel') or ''}".strip()
    if machine.get("virtualised"):
        yield "virtualised"


def _versions(summary: RunSummary) -> Iterator[str]:
    """Each framework with its own version; several with the same distribution are named after it.

    The local part is left out: `2.13.0+cpu` is 2.13.0.
    """
    own = {name: one.own for name, one in summary.interpreters.items() if one.own}
    shared = Counter(own.values())
    names = {one: one.name if shared[one] > 1 else name for name, one in own.items()}
    for distribution, name in names.items():
        yield f"{name} {distribution.version.partition('+')[0]}"
