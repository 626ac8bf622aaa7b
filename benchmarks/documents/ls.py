"""The document of `dyno ls KIND --json`; each kind has its own type of row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.contract.case import Option

Schema = Literal["dyno.ls/1"]
SCHEMA: Schema = "dyno.ls/1"


@dataclass(frozen=True)
class FrameworkRow:
    """A framework with what a probe saw, or why it is not installed."""

    framework: str
    base: str | None
    """The framework that a library computes with; None for a framework."""
    installed: bool
    executions: tuple[str, ...]
    devices: Mapping[str, int]
    versions: Mapping[str, str]
    reason: str | None


@dataclass(frozen=True)
class Frameworks:
    """Every framework of the catalog."""

    schema: Schema = SCHEMA
    kind: Literal["frameworks"] = "frameworks"
    rows: tuple[FrameworkRow, ...] = ()


@dataclass(frozen=True)
class WorkloadRow:
    """A workload with its sizes, its own axes and the frameworks that implement it."""

    workload: str
    version: int
    unit: str
    sizes: tuple[str, ...]
    precisions: tuple[str, ...]
    options: Mapping[str, tuple[Option, ...]]
    """The values by name; for a range of integers the least and the largest, as text."""
    frameworks: tuple[str, ...]
    tuned: Mapping[str, str]
    """For each framework with `recipe=tuned`, the operations that it rewrites."""


@dataclass(frozen=True)
class Workloads:
    """Every workload of the catalog."""

    schema: Schema = SCHEMA
    kind: Literal["workloads"] = "workloads"
    rows: tuple[WorkloadRow, ...] = ()


@dataclass(frozen=True)
class SuiteRow:
    """A suite of configs/suite/ with its description."""

    suite: str
    num_matrices: int
    description: str


@dataclass(frozen=True)
class Suites:
    """Every suite."""

    schema: Schema = SCHEMA
    kind: Literal["suites"] = "suites"
    rows: tuple[SuiteRow, ...] = ()


@dataclass(frozen=True)
class RunRow:
    """A run of the store."""

    run_id: str
    created_at: str
    suite: str
    protocol: str
    num_cells: int
    num_launches: int
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Runs:
    """Each run of the store, oldest first."""

    schema: Schema = SCHEMA
    kind: Literal["runs"] = "runs"
    rows: tuple[RunRow, ...] = ()


@dataclass(frozen=True)
class Claims:
    """Claims of published documents: none are stored yet."""

    schema: Schema = SCHEMA
    kind: Literal["claims"] = "claims"
    rows: tuple[()] = ()


Listing = Frameworks | Workloads | Suites | Runs | Claims
