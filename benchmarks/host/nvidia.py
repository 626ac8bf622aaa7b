"""NVIDIA devices that launches may use, as the driver's management library describes them.

nvidia-ml-py is imported on demand (as `pynvml`); without it, a driver or a device the lists are
empty. Each field is queried by itself: one that the driver does not answer is None, never 0.
Standard library and nvidia-ml-py only.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

THROTTLE_REASONS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""Bits of the clocks' event reasons that disturb a measurement. The power cap (0x4) is not among
them: large matmuls reach it on every recent device."""


def devices() -> list[dict[str, Any]]:
    """The identity of each device: name, memory_bytes, driver, power_limit_w, ..."""
    with _library() as nvml:
        return [_identity(nvml, handle) for handle in _handles(nvml)]


def states() -> list[dict[str, Any]]:
    """The present state of each device: sm_clock_mhz, throttle_reasons, num_processes, ..."""
    with _library() as nvml:
        return [_state(nvml, handle) for handle in _handles(nvml)]


@contextlib.contextmanager
def _library() -> Iterator[Any]:
    """The initialised library, or None."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # noqa: BLE001 - no package, no driver or another version of it: no device
        yield None
        return
    try:
        yield nvml
    finally:
        _ask(nvml.nvmlShutdown)


def _handles(nvml: Any) -> list[Any]:
    if nvml is None:
        return []
    count = _ask(nvml.nvmlDeviceGetCount) or 0
    handles = [_ask(nvml.nvmlDeviceGetHandleByIndex, index) for index in range(count)]
    identifiers = [str(_string(_ask(nvml.nvmlDeviceGetUUID, handle))) for handle in handles]
    visible = visible_indices(identifiers, os.environ)
    return [handles[index] for index in visible if handles[index] is not None]


def visible_indices(identifiers: Sequence[str], environment: Mapping[str, str]) -> list[int]:
    """The indices that CUDA_VISIBLE_DEVICES leaves of these UUIDs, which are in PCI bus order.

    All of them if the variable cannot be resolved here: it names a part of a device (MIG), or uses
    CUDA's own order, fastest first. As in CUDA, an entry that matches no device ends the list.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars
    """
    every = list(range(len(identifiers)))
    asked = environment.get("CUDA_VISIBLE_DEVICES")
    if asked is None or "MIG-" in asked:
        return every
    if environment.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID") != "PCI_BUS_ID" and "GPU-" not in asked:
        return every
    visible: list[int] = []
    for entry in (part.strip() for part in asked.split(",")):
        found = [i for i in every if entry and entry in (str(i), identifiers[i][: len(entry)])]
        if len(found) != 1:
            break
        visible += found
    return visible


def _identity(nvml: Any, handle: Any) -> dict[str, Any]:
    memory = _ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    power_limit_mw = _ask(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    mig = _ask(nvml.nvmlDeviceGetMigMode, handle)
    ecc = _ask(nvml.nvmlDeviceGetEccMode, handle)
    return {
        "name": _string(_ask(nvml.nvmlDeviceGetName, handle)),
        "memory_bytes": None if memory is None else int(memory.total),
        "driver": _string(_ask(nvml.nvmlSystemGetDriverVersion)),
        "power_limit_w": None if power_limit_mw is None else power_limit_mw / 1000,
        "max_sm_clock_mhz": _ask(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM),
        "mig": None if mig is None else bool(mig[0]),
        "ecc": None if ecc is None else bool(ecc[0]),
    }


def _state(nvml: Any, handle: Any) -> dict[str, Any]:
    reasons = _ask(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    processes = _ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    utilization = _ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    clock = _ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)
    return {
        "sm_clock_mhz": clock,
        "utilization_percent": None if utilization is None else int(utilization.gpu),
        "num_processes": None if processes is None else len(processes),
        "throttle_reasons": None
        if reasons is None
        else [name for bit, name in THROTTLE_REASONS.items() if reasons & bit],
        **_link(nvml, handle),
    }


def _link(nvml: Any, handle: Any) -> dict[str, Any]:
    return {
        "pcie_width": _ask(nvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
        "pcie_max_width": _ask(nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
    }


def _ask(question: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None if this device or driver has none."""
    try:
        return question(*arguments)
    except Exception:  # noqa: BLE001 - drivers fail on unsupported queries in different ways
        return None


def _string(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
