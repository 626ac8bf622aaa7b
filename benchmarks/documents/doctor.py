"""The document of `dyno doctor --json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.host.readiness import BUSY, Finding


@dataclass(frozen=True)
class FrameworkReport:
    """One framework on this machine."""

    name: str
    usable: bool
    reason: str | None
    """Why it cannot be used, and what to do."""
    base: str | None = None
    """The framework that a library computes with; None for a framework."""
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
    schema: Literal["dyno.doctor/1"] = "dyno.doctor/1"

    @property
    def num_usable(self) -> int:
        """Frameworks that can be measured."""
        return sum(framework.usable for framework in self.frameworks)

    @property
    def is_busy(self) -> bool:
        """Whether other load would disturb a measurement."""
        return any(finding.severity == BUSY for finding in self.findings)

    @property
    def is_ready(self) -> bool:
        """Whether a measurement can begin."""
        return self.num_usable > 0 and not self.is_busy
