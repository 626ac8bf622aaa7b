"""The conditions of this machine that would disturb a measurement, and the remedies.

A pure function of the facts from `host.machine`: nothing is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.contract.units import GIB, in_gib
from benchmarks.host.disturbance import most_foreign_share

BUSY = "busy"
SEVERITIES = (BUSY, "warn", "note")
"""Severities of a finding; with one that is BUSY the machine is not ready."""
MAX_IDLE_LOAD_PER_CORE = 0.2
"""Load average per core above which a machine is not idle."""
MAX_IDLE_PRESSURE_PERCENT = 10.0
MIN_AVAILABLE_BYTES = 4 * GIB
"""Memory for the harness and one launch of a small workload."""


@dataclass(frozen=True)
class Finding:
    """One condition of the machine that would disturb results."""

    severity: str
    """busy: not ready; warn: results are disturbed; note: good to know."""
    what: str
    hint: str | None = None
    """The remedy, if there is one."""


NUM_HOLDERS = 2
"""Number of frameworks that an oracle needs."""


def findings(
    machine: Mapping[str, Any],
    state: Mapping[str, Any],
    *,
    lock_holder: str | None,
    holders: Mapping[str, bool],
) -> list[Finding]:
    """All findings, the most severe first; an unknown fact is no finding.

    Args:
        machine: `machine.fingerprint()`.
        state: `machine.state()`.
        lock_holder: the process that is measuring on this machine already, or None.
        holders: the frameworks that can hold the oracle, and whether each can be used here.
    """
    found = [
        *_busy(machine, state),
        *_other_run(lock_holder),
        *_holders(holders),
        *_load(machine, state),
        *_frequency(state),
        *_quota(state),
        *_memory(state),
        *_power(state),
        *_accelerators(state),
        *_virtualisation(machine),
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _busy(machine: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Finding]:
    share, num_cores = state.get("foreign_cpu_share"), machine.get("num_cores")
    if share is None or not num_cores or share <= most_foreign_share(num_cores):
        return
    yield Finding(
        BUSY,
        f"other processes take {share:.0%} of our {num_cores} cores"
        f" (at most {most_foreign_share(num_cores):.0%} while measuring)",
        "stop them (top shows them), or give dyno idle cores with taskset -c",
    )


def _other_run(lock_holder: str | None) -> Iterator[Finding]:
    if lock_holder:
        yield Finding("warn", f"another dyno run is measuring ({lock_holder})", "wait for its end")


def _holders(holders: Mapping[str, bool]) -> Iterator[Finding]:
    num_usable = sum(holders.values())
    if num_usable < NUM_HOLDERS:
        yield Finding(
            "warn",
            f"{num_usable} of the {NUM_HOLDERS} frameworks that the float64 oracle needs can be"
            " used: no work can be proven equal, and nothing will be ranked",
            f"install {NUM_HOLDERS} of {', '.join(holders)}: scripts/setup",
        )


def _load(machine: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Finding]:
    hint = "stop other programs, then look again after a minute"
    load, num_cores = state.get("load_average"), machine.get("num_cores")
    if load and num_cores and load[0] > MAX_IDLE_LOAD_PER_CORE * num_cores:
        yield Finding("warn", f"load average {load[0]:.2f} on {num_cores} cores", hint)
    pressure = state.get("cpu_pressure_percent")
    if pressure is not None and pressure > MAX_IDLE_PRESSURE_PERCENT:
        yield Finding("warn", f"tasks waited for a CPU {pressure:.0f} % of the last 10 s", hint)


def _frequency(state: Mapping[str, Any]) -> Iterator[Finding]:
    governor = state.get("governor")
    if governor is not None and governor != "performance":
        yield Finding(
            "warn", f"CPU governor is {governor}", "sudo cpupower frequency-set -g performance"
        )
    if state.get("num_thermal_throttles"):
        yield Finding(
            "note",
            f"the CPU throttled {state['num_thermal_throttles']} times since it started",
            "check the cooling if the number rises during a run",
        )
    if state.get("turbo"):
        yield Finding("note", "CPU turbo is on: clocks follow temperature and neighbours' load")


def _quota(state: Mapping[str, Any]) -> Iterator[Finding]:
    quota = state.get("cpu_quota_cores")
    if quota is not None:
        yield Finding(
            "warn",
            f"a CPU quota of {quota:g} cores stops launches in mid-step",
            "give the container whole cores (cpuset) instead of a quota",
        )


def _memory(state: Mapping[str, Any]) -> Iterator[Finding]:
    available, swapped = state.get("memory_available_bytes"), state.get("swap_used_bytes")
    if available is not None and available < MIN_AVAILABLE_BYTES:
        yield Finding(
            "warn",
            f"{in_gib(available)} of memory free",
            "close programs, or lower machine.memory_limit_gib",
        )
    if swapped:
        yield Finding("warn", f"{in_gib(swapped)} are swapped out", "free memory, then swapoff -a")


def _power(state: Mapping[str, Any]) -> Iterator[Finding]:
    if state.get("on_battery"):
        yield Finding("warn", "running on battery", "plug in the power supply")


def _accelerators(state: Mapping[str, Any]) -> Iterator[Finding]:
    for index, device in enumerate(state.get("accelerators") or ()):
        num_processes = device.get("num_processes")
        if num_processes:
            yield Finding(
                "warn",
                f"GPU {index} is in use by {num_processes} other process(es)",
                "end them, or hide the GPU with CUDA_VISIBLE_DEVICES",
            )
        for reason in device.get("throttle_reasons") or ():
            yield Finding("warn", f"GPU {index} is held back: {reason}", "check cooling and power")
        width, max_width = device.get("pcie_width"), device.get("pcie_max_width")
        if width and max_width and width < max_width:
            yield Finding(
                "warn", f"GPU {index} has {width} of {max_width} PCIe lanes", "reseat the card"
            )


def _virtualisation(machine: Mapping[str, Any]) -> Iterator[Finding]:
    if machine.get("virtualised"):
        yield Finding("note", "this is a virtual machine: its neighbours' load is not visible")
