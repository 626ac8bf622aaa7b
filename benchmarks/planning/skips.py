"""Whether a case can run here, and if not, why: each skip has a kind and a reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.contract.case import TUNED, Case
from benchmarks.contract.device import DEVICE_KINDS
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.plan import Interpreter
from benchmarks.contract.units import in_gib
from benchmarks.host.compiler import INSTALL_HINT
from benchmarks.planning.catalog import Catalog
from benchmarks.planning.estimate import MemoryLimit


class Skip(NamedTuple):
    """Why a case is not launched; `kind` is one of record.PLAN_REASONS."""

    kind: str
    reason: str


@dataclass(frozen=True)
class Offer:
    """Everything that is available to run cases with."""

    catalog: Catalog
    interpreters: Mapping[str, Interpreter | str]
    """For each framework that implements a case, its interpreter or why it has none."""
    memory_limits: Mapping[str, MemoryLimit]
    """The memory limits by kind of device."""
    has_compiler: bool


def skip_of(case: Case, memory_bytes: int, offer: Offer) -> Skip | None:
    """Why the case cannot run here, or None if it can."""
    return (
        _unsupported(case, memory_bytes, offer.catalog)
        or _not_implemented(case, offer.catalog)
        or _not_installed(case, offer)
        or _without_device(case, memory_bytes, offer)
        or _without_compiler(case, offer)
        or _too_large(case, memory_bytes, offer.memory_limits[case.place.device])
    )


def absent_device(case: Case, interpreter: Interpreter) -> str:
    """Why a case has no device: its framework sees none of the kind here, or too few."""
    device, framework = case.place.device, case.way.framework
    num_seen = interpreter.devices.get(device, 0)
    if num_seen:
        asked = case.place.num_devices
        return f"{framework} sees {num_seen} {device} devices here, {asked} are requested"
    return f"no {device} device seen by {framework} here"


def _unsupported(case: Case, memory_bytes: int, catalog: Catalog) -> Skip | None:
    capabilities = catalog.frameworks[case.way.framework].capabilities
    reason = (
        _indivisible(case)
        or _documented(case, capabilities)
        or _not_run(case, capabilities)
        or _not_offered(case, memory_bytes, capabilities)
        or _not_per_replica(case, catalog)
    )
    precisions = catalog.workloads[case.work.workload].spec.precisions
    if reason is None and case.way.precision not in precisions:
        reason = (
            f"{case.work.workload} is not defined in {case.way.precision};"
            f" it is in {', '.join(precisions)}"
        )
    return Skip("unsupported", reason) if reason else None


def _indivisible(case: Case) -> str | None:
    """Why the devices cannot share the batch equally."""
    batch_size, num_devices = case.work.batch_size, case.place.num_devices
    if batch_size % num_devices == 0:
        return None
    return (
        f"a batch of {batch_size} cannot be shared equally by {num_devices} devices; batch_size"
        " counts the items of a step over all devices"
    )


def _not_per_replica(case: Case, catalog: Catalog) -> str | None:
    """Why the implementation's mathematics on several devices would not be the workload's."""
    implementation = catalog.implementations.get((case.work.workload, case.way.framework))
    if case.work.num_replicas == 1 or implementation is None or implementation.is_per_replica:
        return None
    return (
        f"{case.way.framework} does not take the batch statistics of {case.work.workload} over each"
        " device's share of the batch, as the workload's mathematics on several devices requires"
    )


def _documented(case: Case, capabilities: Capabilities) -> str | None:
    """Why the framework does not support this combination, if its folder says so."""
    for entry in capabilities.unsupported:
        if entry.covers(
            workload=case.work.workload,
            device=case.place.device,
            execution=case.way.execution,
            precision=case.way.precision,
        ):
            return f"{entry.reason} ({entry.link})"
    return None


def _not_run(case: Case, capabilities: Capabilities) -> str | None:
    way = case.way
    if way.execution in capabilities.executions:
        return None
    known = ", ".join(capabilities.executions)
    return f"{way.framework} has no execution {way.execution}; it has {known}"


def _not_offered(case: Case, memory_bytes: int, capabilities: Capabilities) -> str | None:
    """Why the requested device cannot be used, and how much memory another one must have."""
    way, device = case.way, case.place.device
    if device not in capabilities.precisions:
        known = ", ".join(capabilities.precisions)
        return (
            f"{way.framework} does not run on {device} here; it runs on {known};"
            f" {_demand(case, memory_bytes)}"
        )
    if way.precision not in capabilities.precisions[device]:
        known = ", ".join(capabilities.precisions[device])
        return (
            f"{way.framework} has no {way.precision} on {device}; it has {known};"
            f" {_demand(case, memory_bytes)}"
        )
    if case.place.num_devices > capabilities.max_num_devices:
        asked, most = case.place.num_devices, capabilities.max_num_devices
        return f"{way.framework} is run on {most} device(s) at most here, not on {asked}"
    return None


def _demand(case: Case, memory_bytes: int) -> str:
    """How much memory the case takes, and on which devices: see `Cell.memory_bytes`."""
    num_devices = case.place.num_devices
    if num_devices == 1:
        whose = "a device's memory"
    elif DEVICE_KINDS[case.place.device].has_own_memory:
        whose = f"memory on each of {num_devices} devices"
    else:
        whose = f"the host's memory for {num_devices} devices"
    return f"the case needs up to {in_gib(memory_bytes)} of {whose}"


def _not_implemented(case: Case, catalog: Catalog) -> Skip | None:
    workload, framework = case.work.workload, case.way.framework
    implementation = catalog.implementations.get((workload, framework))
    if implementation is None:
        return Skip("not_implemented", f"{workload} is not implemented in {framework}")
    if case.way.recipe != TUNED:
        return None
    if implementation.rewrites is None:
        return Skip(
            "not_implemented",
            f"{framework} has no tuned recipe of {workload}; select recipe=idiomatic, or declare"
            f" the rewriting as TUNED in {implementation.module}",
        )
    if case.place.device not in implementation.rewrites_on:
        return Skip(
            "not_implemented",
            f"the tuned recipe of {workload} in {framework} rewrites nothing on"
            f" {case.place.device}, only on {', '.join(sorted(implementation.rewrites_on))};"
            " select recipe=idiomatic",
        )
    return None


def _not_installed(case: Case, offer: Offer) -> Skip | None:
    found = offer.interpreters[case.way.framework]
    if isinstance(found, str):
        return Skip("not_installed", found)
    implementation = offer.catalog.implementations[case.work.workload, case.way.framework]
    for exporter in implementation.exporters(case.way.precision):
        source = offer.interpreters[exporter]
        if isinstance(source, str):
            return Skip("not_installed", f"its model is exported from {exporter}: {source}")
    return None


def _without_device(case: Case, memory_bytes: int, offer: Offer) -> Skip | None:
    interpreter = offer.interpreters[case.way.framework]
    assert isinstance(interpreter, Interpreter)
    if interpreter.probe_failure:  # its devices are unknown: a launch leaves a record and a log
        return None
    if interpreter.devices.get(case.place.device, 0) >= case.place.num_devices:
        return None
    return Skip("no_device", f"{absent_device(case, interpreter)}; {_demand(case, memory_bytes)}")


def _without_compiler(case: Case, offer: Offer) -> Skip | None:
    needs = offer.catalog.frameworks[case.way.framework].capabilities.needs_compiler
    if offer.has_compiler or (case.way.execution, case.place.device) not in needs:
        return None
    what = f"{case.way.framework} {case.way.execution} on {case.place.device}"
    return Skip("unsupported", f"{what} needs a C++ compiler; {INSTALL_HINT}")


def _too_large(case: Case, memory_bytes: int, memory: MemoryLimit) -> Skip | None:
    if memory.holds([memory_bytes]):
        return None
    assert memory.limit_bytes is not None
    each = " on each device" * (case.place.num_devices > 1 and memory.is_shared_equally)
    return Skip(
        "does_not_fit",
        f"needs up to {in_gib(memory_bytes)} of {case.place.device} memory{each},"
        f" the limit is {in_gib(memory.limit_bytes)}",
    )
