"""A plan: the cells of the matrix, and the cohorts that are to be launched.

It is stored as JSON beside the records that it led to. Standard library and the contract only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contract.case import Case, case_from_json
from benchmarks.contract.device import DeviceRules
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import SERIAL, TOGETHER
from benchmarks.contract.units import GIB

PLAN_SCHEMA = "dyno.stored-plan/1"
EARLIER_SCHEMAS = ("dyno.plan/1",)
"""What stored plans of the same shape were called before."""
MEMORY_SHARE = 0.9
"""Share of a memory that launches may take; the rest is the system's and the driver's."""


@dataclass(frozen=True)
class Cell:
    """One case, and what is to be done about it."""

    case: Case
    action: str
    """run, have or skip."""
    kind: str | None = None
    """For skip, one of record.PLAN_REASONS; for have, "have"."""
    reason: str | None = None
    """For people: why it does not run, with the upstream link where there is one."""
    estimate_s: float | None = None
    """Expected seconds, of all of its launches."""
    estimate_basis: str | None = None
    """Where the estimate comes from: earlier records here, or a rule of thumb."""
    memory_bytes: int | None = None
    """Upper estimate for one launch: what each of its devices holds, if they have memory of their
    own; what all of them hold, if their memory is the host's."""
    result_key: str | None = None
    """Identity of its results; None where it cannot run."""
    differs: str | None = None
    """How its mathematics differs from the workload's, if it does: it is compared with nothing."""


@dataclass(frozen=True)
class LaunchPlan:
    """One process of a cohort."""

    case_id: str
    replica: int = 0
    """1 where it is the other side of the base's comparison with itself (A/A)."""


@dataclass(frozen=True)
class CohortPlan:
    """One launch of each case, alive together and taking turns; or, serial, of two cases A B B A.

    The cohort gives each ratio one value either way, and is what is repeated.
    """

    cohort_id: str
    group_id: str
    index: int
    seed: int
    """Seeds the order of the launches and of the turns in each round."""
    launches: tuple[LaunchPlan, ...]
    """Where they are serial, in their order: each is over before the next begins."""
    resident: str = TOGETHER
    """together or serial, as in a record."""

    @property
    def alive_at_once(self) -> tuple[tuple[LaunchPlan, ...], ...]:
        """The launches that are alive at the same time, one set after another."""
        if self.resident == SERIAL:
            return tuple((launch,) for launch in self.launches)
        return (self.launches,)


@dataclass(frozen=True)
class MachineConfig:
    """How to use this machine; configs/machine/, each field open to an override."""

    python: dict[str, str] = field(default_factory=dict)
    """A framework's own interpreter, e.g. machine.python.jax=/path/to/python."""
    num_threads: int | None = None
    """Intra-operation threads of every framework; None: the cores that this process may use."""
    memory_limit_gib: float | None = None
    """GiB (2**30) that the launches alive together may take; None: 90 % of what there is."""
    max_resident: int = 8
    """Launches alive together at most; larger groups are split, each part with its base; with 1
    a case and its base run one after another (A B B A)."""
    cache_folder: str = ".dyno"
    """Compile caches, canonical arrays and probes, relative to the project's root."""
    lock_folder: str | None = None
    """Folder of the lock that lets one run measure at a time, relative to the project's root; None:
    a folder that all users and checkouts of this machine share."""

    def memory_limit_bytes(self, total_bytes: int) -> int:
        """Bytes that the launches alive together may take of a host that has so many."""
        if self.memory_limit_gib is not None:
            return int(self.memory_limit_gib * GIB)
        return int(MEMORY_SHARE * total_bytes)


@dataclass(frozen=True)
class Interpreter:
    """Where a framework runs, and what a probe saw there."""

    python: str
    versions: dict[str, str]
    """Installed version of each distribution that identifies results."""
    devices: dict[str, int]
    """Devices that the framework sees, with their number."""
    probe_failure: str | None = None
    """How the probe ended where it saw nothing: the launch will fail alike, with a record."""


@dataclass(frozen=True)
class Plan:
    """What `dyno run` will do; `dyno plan` shows it."""

    run_id: str
    plan_key: str
    """Hash of cells and protocol: the same command finds its run again by it."""
    created_at: str
    suite: str
    overrides: tuple[str, ...]
    protocol: MeasuringProtocol
    machine_config: MachineConfig
    cells: tuple[Cell, ...]
    cohorts: tuple[CohortPlan, ...]
    bases: dict[str, str]
    """For each case_id, the case_id that its ratio is taken against: same group and precision."""
    interpreters: dict[str, Interpreter]
    device_rules: dict[str, DeviceRules]
    machine: dict[str, Any]
    """Fingerprint of the machine, as in every record's environment."""
    missing: tuple[str, ...] = ()
    """Why each framework or device is not there that the user named outright, and not by `all`; if
    there are any, a command ends with EXIT_ENVIRONMENT."""
    fresh: bool = False
    """Whether records of earlier runs are left out of account."""
    schema: str = field(default=PLAN_SCHEMA)

    @property
    def estimate_s(self) -> float | None:
        """Expected seconds of all launches; None where there are none."""
        known = [cell.estimate_s for cell in self.cells if cell.estimate_s is not None]
        return sum(known) if known else None

    def cell(self, case_id: str) -> Cell:
        """The cell of this case."""
        return next(cell for cell in self.cells if cell.case.case_id == case_id)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON, the inverse of `plan_from_json`."""
        return dataclasses.asdict(self)


def plan_from_json(data: Mapping[str, Any]) -> Plan:
    """The plan that `Plan.to_json` wrote; ValueError where it is none or of another schema."""
    if data.get("schema") not in (PLAN_SCHEMA, *EARLIER_SCHEMAS):
        raise ValueError(f"schema={data.get('schema')!r}: expected {PLAN_SCHEMA}")
    try:
        return Plan(**{**data, **_typed(data), "schema": PLAN_SCHEMA})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a plan: {error}") from error


def _typed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": PLAN_SCHEMA,
        "overrides": tuple(data["overrides"]),
        "missing": tuple(data.get("missing", ())),
        "protocol": MeasuringProtocol(**data["protocol"]),
        "machine_config": MachineConfig(**data["machine_config"]),
        "cells": tuple(Cell(**{**c, "case": case_from_json(c["case"])}) for c in data["cells"]),
        "cohorts": tuple(_cohort(cohort) for cohort in data["cohorts"]),
        "interpreters": {k: Interpreter(**v) for k, v in data["interpreters"].items()},
        "device_rules": {k: DeviceRules(**v) for k, v in data["device_rules"].items()},
    }


def _cohort(data: Mapping[str, Any]) -> CohortPlan:
    return CohortPlan(**{**data, "launches": tuple(LaunchPlan(**x) for x in data["launches"])})
