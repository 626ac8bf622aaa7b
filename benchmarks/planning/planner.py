"""Makes a plan from overrides: an action for every cell, and the cohorts still to be launched.

It is pure except that it reads `Surroundings` and the store, once each. Hydra runs only once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from benchmarks.contract import device
from benchmarks.contract.plan import Cell, Interpreter, Plan
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import Record
from benchmarks.planning import axes, config
from benchmarks.planning.catalog import Catalog
from benchmarks.planning.cells import Drafting
from benchmarks.planning.cohorts import Fits, Part, bases_of, cohorts_of, parts_of, with_missing
from benchmarks.planning.config import Configuration
from benchmarks.planning.counterparts import counterpart_parts, with_idiomatic
from benchmarks.planning.history import History
from benchmarks.planning.identity import plan_key
from benchmarks.planning.names import unknown_name
from benchmarks.planning.overrides import Overrides, parse
from benchmarks.planning.skips import absent_device
from benchmarks.planning.surroundings import Interpreters, Surroundings, here


@dataclass(frozen=True)
class PlanRequest:
    """A user's request for a plan."""

    overrides: tuple[str, ...] = ()
    fresh: bool = False
    """Whether to measure everything again, even if the store has results."""
    adds_idiomatic: bool = True
    """Whether each tuned case brings its idiomatic one, to be measured beside it."""


class Runs(Protocol):
    """The part of the store that planning reads."""

    def runs(self) -> list[str]:
        """The ids of all runs, the one written last at the end."""

    def read_plan(self, run_id: str) -> Plan:
        """The plan of a run."""

    def records(self) -> list[Record]:
        """The records of all runs, in the order in which they were appended."""


def make_plan(
    request: PlanRequest,
    *,
    catalog: Catalog,
    store: Runs,
    surroundings: Surroundings | None = None,
) -> Plan:
    """The plan of these overrides on this machine.

    Raises UsageError if an override, a suite or a name cannot be used or there are too many cells,
    and StoreError if the store is damaged.
    """
    specs = catalog.specs().values()
    options = {name for spec in specs for name in (*spec.options, *spec.way_options)}
    overrides = parse(request.overrides, options=sorted(options))
    resolved = config.resolve(overrides)
    configuration = resolved.configuration
    _refuse_unknown_interpreters(configuration, catalog)
    found = axes.matrices(configuration.suite.matrices, overrides.axes, catalog)
    around = surroundings or here()
    wanted = _implemented(found, catalog)
    exporters = _exporters(wanted, catalog)
    interpreters = around.interpreters(catalog, configuration.machine, [*wanted, *exporters])
    auto_device = best_device({name: interpreters[name] for name in wanted})
    history = History(store.records(), fresh=request.fresh)
    drafting = Drafting(catalog, configuration, interpreters, around, history)
    cells = [drafting.draft(case) for case in axes.cases(found, auto_device)]
    if request.adds_idiomatic:
        cells = list(with_idiomatic(cells, drafting.draft))
    parts = _parts(cells, drafting.fits, history, configuration.protocol)
    key = plan_key(cells, configuration.protocol, fresh=request.fresh)
    run_id = _earlier_run(key, store) if not request.fresh else None
    run_id = run_id or _new_run_id(resolved.suite_name, around)
    cohorts = cohorts_of(parts, history, configuration.protocol, run_id)
    return Plan(
        run_id=run_id,
        plan_key=key,
        created_at=around.now.isoformat(timespec="seconds"),
        suite=resolved.suite_name,
        overrides=request.overrides,
        protocol=configuration.protocol,
        machine_config=configuration.machine,
        cells=tuple(drafting.settle(cells, parts, cohorts)),
        missing=tuple(_missing(cells, overrides, interpreters)),
        cohorts=tuple(cohorts),
        bases=bases_of(parts),
        interpreters={k: v for k, v in interpreters.items() if isinstance(v, Interpreter)},
        device_rules=configuration.device_rules,
        machine=around.machine,
        fresh=request.fresh,
        parts=tuple(part.plan for part in parts),
    )


def best_device(interpreters: Interpreters) -> str:
    """The device that `auto` stands for: the best that any of the frameworks sees here."""
    seen = _devices_seen(interpreters)
    return device.best(seen)


def _devices_seen(interpreters: Interpreters) -> set[str]:
    return {
        name
        for found in interpreters.values()
        if isinstance(found, Interpreter)
        for name, number in found.devices.items()
        if number
    }


def _missing(
    cells: Iterable[Cell], overrides: Overrides, interpreters: Interpreters
) -> dict[str, None]:
    """The texts of `Plan.missing`, each once and in the order of the cells.

    A device that the user named counts as missing if a framework that the user named does not see
    it, or if no framework sees it.
    """
    seen = _devices_seen(interpreters)
    found: dict[str, None] = {}
    for cell in cells:
        framework, kind = cell.case.way.framework, cell.case.place.device
        is_named = overrides.is_named("framework", framework)
        if cell.kind == "not_installed" and is_named:
            found[f"{framework}: {cell.reason}"] = None
        is_missing = overrides.is_named("device", kind) and (is_named or kind not in seen)
        if cell.kind == "no_device" and is_missing:
            interpreter = interpreters[framework]
            assert isinstance(interpreter, Interpreter)
            found[absent_device(cell.case, interpreter)] = None
    return found


def _refuse_unknown_interpreters(configuration: Configuration, catalog: Catalog) -> None:
    for name in configuration.machine.python:
        if name not in catalog.frameworks:
            where = f"machine.python.{name}"
            raise unknown_name(name, catalog.frameworks, kind="framework", where=where)


def _implemented(found: Iterable[axes.Matrix], catalog: Catalog) -> list[str]:
    """The frameworks of the selection that implement a workload in it: only these are probed."""
    return list(
        dict.fromkeys(
            framework
            for matrix in found
            for framework in matrix.frameworks
            if (matrix.spec.name, framework) in catalog.implementations
        )
    )


def _exporters(frameworks: Iterable[str], catalog: Catalog) -> list[str]:
    """The other frameworks that export models for these frameworks."""
    wanted = set(frameworks)
    found = dict.fromkeys(
        exporter
        for (_, framework), entry in catalog.implementations.items()
        if framework in wanted
        for exporter in entry.programs
    )
    return [name for name in found if name not in wanted]


def _parts(
    cells: Iterable[Cell], fits: Fits, history: History, protocol: MeasuringProtocol
) -> list[Part]:
    """The parts of the cells that can run, with their cohorts; those of counterparts come last."""
    runnable = [cell for cell in cells if cell.action == "run"]
    parts = parts_of(runnable, fits, aa=protocol.aa)
    return with_missing([*parts, *counterpart_parts(runnable, parts, fits)], history, protocol)


def _earlier_run(key: str, store: Runs) -> str | None:
    """The newest run of the same plan, which this one continues."""
    plans = (store.read_plan(run_id) for run_id in reversed(store.runs()))
    return next((plan.run_id for plan in plans if plan.plan_key == key), None)


def _new_run_id(suite: str, around: Surroundings) -> str:
    name = re.sub(r"[^A-Za-z0-9_]+", "-", suite).strip("-")[:40] or "suite"
    return f"{around.now:%Y%m%d-%H%M%S}-{name}-{around.token}"
