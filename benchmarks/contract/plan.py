"""A plan: the cells of the matrix, and the cohorts that are to be launched.

It is stored as JSON beside the records that it led to. Standard library and the contract only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.contract.case import Case, case_from_json
from benchmarks.contract.device import DeviceRules
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import SERIAL, TOGETHER
from benchmarks.contract.units import GIB

PLAN_SCHEMA = "dyno.stored-plan/1"
EARLIER_SCHEMAS = ("dyno.plan/1",)
"""Earlier names of this schema, for stored plans of the same shape."""
MEMORY_SHARE = 0.9
"""Share of a memory that launches may take; the rest is for the system and the driver."""


@dataclass(frozen=True)
class Cell:
    """One case, and what the plan does about it."""

    case: Case
    action: str
    """run, have or skip."""
    kind: str | None = None
    """For skip, one of record.PLAN_REASONS; for have, "have"."""
    reason: str | None = None
    """Why the case does not run, in words, with the upstream link if there is one."""
    estimate_s: float | None = None
    """Expected seconds of all launches of the case."""
    estimate_basis: str | None = None
    """The basis of the estimate: earlier records here, or a rule of thumb."""
    memory_bytes: int | None = None
    """Upper estimate of a launch's memory: on each of its devices, if they have memory of their
    own; over all of its devices, if their memory is the host's."""
    result_key: str | None = None
    """Identity of the case's results; None if the case cannot run."""
    differs: str | None = None
    """How its mathematics differs from the workload's; if it does, the case is not compared."""
    rewrites: str | None = None
    """The operations that it rewrites, if its recipe is tuned."""
    has_own_clock: bool = False
    """Whether its times are its framework's word alone (`Capabilities.has_own_clock`)."""


@dataclass(frozen=True)
class LaunchPlan:
    """One process of a cohort."""

    case_id: str
    replica: int = 0
    """1 for the second launch of the base in its comparison with itself (A/A), else 0."""


@dataclass(frozen=True)
class PartPlan:
    """Cases of one group and precision that are measured in the same cohorts."""

    index: int
    """Position among the parts of the plan; the ids of its cohorts hold it."""
    group_id: str
    precision: str
    launches: tuple[LaunchPlan, ...]
    """The launches of a whole cohort, in the order of the plan's cells."""
    companions: dict[str, tuple[str, ...]]
    """For each case_id the case_ids beside which it must be measured: its base, counterparts."""
    resident: str = TOGETHER
    """together or serial, as in a record."""


@dataclass(frozen=True)
class CohortPlan:
    """One launch of each case, alive together and taking turns; or two cases in series, A B B A.

    Either way the cohort gives one value of each ratio; cohorts are repeated for further values.
    """

    cohort_id: str
    group_id: str
    index: int
    seed: int
    """Seeds the order of the launches and of the turns in each round."""
    launches: tuple[LaunchPlan, ...]
    """The launches; if serial, in their order: each ends before the next begins."""
    resident: str = TOGETHER
    """together or serial, as in a record."""
    look: int = 1
    """1 if it was planned before any result was seen, as in a record."""
    num_rounds: int | None = None
    """Rounds of each launch; None: as many as the protocol's time allows."""

    @property
    def alive_at_once(self) -> tuple[tuple[LaunchPlan, ...], ...]:
        """The launches that are alive at the same time, one set after another."""
        if self.resident == SERIAL:
            return tuple((launch,) for launch in self.launches)
        return (self.launches,)


@dataclass(frozen=True)
class MachineConfig:
    """How to use this machine, from configs/machine/; an override can set each field."""

    python: dict[str, str] = field(default_factory=dict)
    """Interpreters by framework, e.g. machine.python.jax=/path/to/python."""
    num_threads: int | None = None
    """Intra-operation threads of every framework; None: the cores that this process may use."""
    memory_limit_gib: float | None = None
    """GiB (2**30) that the launches alive together may take; None: 90 % of the memory."""
    max_resident: int = 8
    """The most launches that are alive together. Larger groups are split, each part with its base;
    with 1 a case and its base run one after another (A B B A)."""
    cache_folder: str = ".dyno"
    """Compile caches, canonical arrays and probes, relative to the project's root."""
    lock_folder: str | None = None
    """Folder of the lock that lets one run measure at a time, relative to the project's root; None:
    a folder that all users and checkouts of this machine share."""

    def memory_limit_bytes(self, total_bytes: int) -> int:
        """Bytes that the launches alive together may take on a host with this total."""
        if self.memory_limit_gib is not None:
            return int(self.memory_limit_gib * GIB)
        return int(MEMORY_SHARE * total_bytes)


class Distribution(NamedTuple):
    """An installed package."""

    name: str
    version: str


@dataclass(frozen=True)
class Interpreter:
    """A framework's interpreter, and what a probe saw there."""

    python: str
    versions: dict[str, str]
    """Installed version of Python, and of each distribution that identifies results: the
    framework's own comes first, as in `Capabilities.distributions`."""
    devices: dict[str, int]
    """Devices that the framework sees, with their number."""
    exporter_versions: dict[str, str] = field(default_factory=dict)
    """Those of the distributions that its exporters use."""
    probe_failure: str | None = None
    """How the probe failed, if it did: a launch will fail in the same way, with a record."""

    @property
    def own(self) -> Distribution | None:
        """The framework's own distribution; None if the probe failed."""
        found = (Distribution(*one) for one in self.versions.items() if one[0] != "python")
        return next(found, None)


@dataclass(frozen=True)
class Plan:
    """The plan that `dyno plan` shows and `dyno run` carries out."""

    run_id: str
    plan_key: str
    """Hash of cells and protocol, by which the same command finds its run again."""
    created_at: str
    suite: str
    overrides: tuple[str, ...]
    protocol: MeasuringProtocol
    machine_config: MachineConfig
    cells: tuple[Cell, ...]
    cohorts: tuple[CohortPlan, ...]
    bases: dict[str, str]
    """For each case_id, the case_id that its ratio is taken against: of equal group, precision and
    recipe."""
    interpreters: dict[str, Interpreter]
    device_rules: dict[str, DeviceRules]
    machine: dict[str, Any]
    """Fingerprint of the machine, as in every record's environment."""
    missing: tuple[str, ...] = ()
    """For each framework or device that the user named (not by `all`) and that is missing, why. If
    there are any, a command ends with EXIT_ENVIRONMENT."""
    fresh: bool = False
    """Whether the records of earlier runs are ignored."""
    parts: tuple[PartPlan, ...] = ()
    """What further cohorts can be made of; empty in plans of earlier versions."""
    schema: str = field(default=PLAN_SCHEMA)

    @property
    def estimate_s(self) -> float | None:
        """Expected seconds of all launches; None if there are none."""
        known = [cell.estimate_s for cell in self.cells if cell.estimate_s is not None]
        return sum(known) if known else None

    def cell(self, case_id: str) -> Cell:
        """The cell of this case."""
        return next(cell for cell in self.cells if cell.case.case_id == case_id)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON, the inverse of `plan_from_json`."""
        return dataclasses.asdict(self)


def plan_from_json(data: Mapping[str, Any]) -> Plan:
    """The plan that `Plan.to_json` wrote; ValueError for other data or another schema."""
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
        "parts": tuple(_part(part) for part in data.get("parts", ())),
        "interpreters": {k: Interpreter(**v) for k, v in data["interpreters"].items()},
        "device_rules": {k: _rules(v) for k, v in data["device_rules"].items()},
    }


def _rules(data: Mapping[str, Any]) -> DeviceRules:
    """The rules of a device, of which a field had another name before protocol version 4."""
    renamed = {"min_steps_per_block": "min_steps_per_sample"}
    return DeviceRules(**{renamed.get(name, name): value for name, value in data.items()})


def _cohort(data: Mapping[str, Any]) -> CohortPlan:
    return CohortPlan(**{**data, "launches": _launches(data)})


def _part(data: Mapping[str, Any]) -> PartPlan:
    companions = {name: tuple(others) for name, others in data["companions"].items()}
    return PartPlan(**{**data, "launches": _launches(data), "companions": companions})


def _launches(data: Mapping[str, Any]) -> tuple[LaunchPlan, ...]:
    return tuple(LaunchPlan(**one) for one in data["launches"])
