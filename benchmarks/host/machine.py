"""The machine: its identity, the resources that we may use, and its state at this moment.

Never a host name, a user name or a serial number. `root` is the folder that holds /proc and /sys.
Standard library, Python 3.9 or later.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contract.units import GIB
from benchmarks.host import cgroup, nvidia

ROOT = Path("/")
CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "asimd",
    "asimdhp",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
)
"""Instruction sets that change which kernels a framework picks."""
_CONTAINER_MARKS = ("docker", "kubepods", "containerd", "libpod", "lxc")
_HARD_KEYS = (
    "cpu",
    "cpu_flags",
    "num_cores",
    "num_numa_nodes",
    "os",
    "architecture",
    "virtualised",
    "container",
)
_HARD_ACCELERATOR_KEYS = (
    "name",
    "memory_bytes",
    "power_limit_w",
    "max_sm_clock_mhz",
    "mig",
    "ecc",
)


def effective_cores(*, root: Path = ROOT) -> int:
    """The number of cores that this process may use: its affinity, or its CPU quota if smaller.

    Never the machine's count: in a container too many threads would compete for few cores.
    """
    quota = cgroup.cpu_quota(root=root)
    cores = _num_cores_in_affinity()
    return cores if quota is None else max(1, min(cores, int(quota)))


def total_memory_bytes(*, root: Path = ROOT) -> int:
    """The bytes of memory that this process may use: the machine's, or its group's limit.

    Raises OSError if the system reports neither.
    """
    known = [_meminfo(root).get("MemTotal"), cgroup.memory_limit_bytes(root=root)]
    if sys.platform == "darwin":
        known.append(int(_sysctl("hw.memsize") or 0) or None)
    amounts = [amount for amount in known if amount is not None]
    if not amounts:
        raise OSError(f"this system does not say how much memory it has ({sys.platform})")
    return min(amounts)


def fingerprint(*, root: Path = ROOT) -> dict[str, Any]:
    """The machine's identity in JSON values; an unknown field is None."""
    cpu = _cpuinfo(root)
    return {
        "cpu": _cpu_name(cpu),
        "cpu_flags": _cpu_flags(cpu),
        "num_cores": effective_cores(root=root),
        "num_numa_nodes": len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
        "memory_bytes": total_memory_bytes(root=root),
        "os": platform.system().lower(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "virtualised": _is_virtualised(cpu),
        "container": _is_container(root),
        "accelerators": nvidia.devices() or _apple_gpu(),
    }


def fingerprint_key(machine: Mapping[str, Any]) -> str:
    """A hash of the properties that must be equal for results to compare.

    Kernel, minor version of the driver and the like are not included. Memory counts in whole GiB,
    because firmware and kernel reserve a little more or less of it at each start.
    """
    hard: dict[str, Any] = {key: machine.get(key) for key in _HARD_KEYS}
    hard["memory_gib"] = round((machine.get("memory_bytes") or 0) / GIB)
    hard["accelerators"] = [
        {
            **{key: device.get(key) for key in _HARD_ACCELERATOR_KEYS},
            "driver": str(device.get("driver")).partition(".")[0],
        }
        for device in machine.get("accelerators") or ()
    ]
    return hashlib.sha256(json.dumps(hard, sort_keys=True).encode()).hexdigest()[:16]


def state(*, root: Path = ROOT) -> dict[str, Any]:
    """The state that may disturb a measurement now, in JSON values; None if a value is unknown."""
    meminfo = _meminfo(root)
    frequency = root / "sys/devices/system/cpu"
    return {
        "load_average": _load_average(root),
        "cpu_pressure_percent": _cpu_pressure(root),
        "governor": _text(frequency / "cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(frequency),
        "num_thermal_throttles": _num_thermal_throttles(frequency),
        "cpu_quota_cores": cgroup.cpu_quota(root=root),
        "cgroup_throttled_ns": cgroup_throttled_ns(root=root),
        "memory_available_bytes": _available_bytes(root),
        "swap_used_bytes": _swap_used_bytes(meminfo),
        "on_battery": _on_battery(root),
        "accelerators": nvidia.states(),
    }


def cgroup_throttled_ns(*, root: Path = ROOT) -> int | None:
    """Nanoseconds for which a CPU quota has throttled this process's groups so far."""
    return cgroup.throttled_ns(root=root)


def _num_cores_in_affinity() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return int(_sysctl("hw.logicalcpu") or 1)


def _cpuinfo(root: Path) -> dict[str, str]:
    """The fields of the first processor."""
    first = (_text(root / "proc/cpuinfo") or "").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cpu_name(cpu: Mapping[str, str]) -> str | None:
    if "model name" in cpu:
        return cpu["model name"]
    if "CPU part" in cpu:  # Arm reports numbers only
        return f"Arm implementer {cpu.get('CPU implementer')} part {cpu['CPU part']}"
    return _sysctl("machdep.cpu.brand_string")


def _cpu_flags(cpu: Mapping[str, str]) -> list[str]:
    present = (cpu.get("flags") or cpu.get("Features") or "").split()
    return [flag for flag in CPU_FLAGS if flag in present]


def _is_virtualised(cpu: Mapping[str, str]) -> bool | None:
    if "flags" in cpu:
        return "hypervisor" in cpu["flags"].split()
    present = _sysctl("kern.hv_vmm_present")
    return None if present is None else present == "1"


def _is_container(root: Path) -> bool:
    marked = any(mark in cgroup.path(root=root) for mark in _CONTAINER_MARKS)
    files = ((root / ".dockerenv").exists(), (root / "run/.containerenv").exists())
    return marked or any(files)


def _apple_gpu() -> list[dict[str, Any]]:
    """The GPU of an Apple chip, which shares the chip's name and memory."""
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return []
    return [{"name": _sysctl("machdep.cpu.brand_string"), "memory_bytes": None, "driver": None}]


def _load_average(root: Path) -> list[float] | None:
    fields = (_text(root / "proc/loadavg") or "").split()[:3]
    if fields:
        return [float(field) for field in fields]
    return list(os.getloadavg()) if sys.platform == "darwin" else None


def _cpu_pressure(root: Path) -> float | None:
    """The share of the last ten seconds in which some task waited for a CPU, in percent."""
    for line in (_text(root / "proc/pressure/cpu") or "").splitlines():
        if line.startswith("some avg10="):
            return float(line.split()[1].partition("=")[2])
    return None


def _turbo(frequency: Path) -> bool | None:
    no_turbo = _text(frequency / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = _text(frequency / "cpufreq/boost")
    return None if boost is None else boost == "1"


def _num_thermal_throttles(frequency: Path) -> int | None:
    counts = [_text(f) for f in frequency.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [int(count) for count in counts if count is not None and count.isdigit()]
    return sum(known) if known else None


def _available_bytes(root: Path) -> int | None:
    amounts = (_meminfo(root).get("MemAvailable"), cgroup.memory_room_bytes(root=root))
    return min((amount for amount in amounts if amount is not None), default=None)


def _swap_used_bytes(meminfo: Mapping[str, int]) -> int | None:
    if "SwapTotal" not in meminfo or "SwapFree" not in meminfo:
        return None
    return meminfo["SwapTotal"] - meminfo["SwapFree"]


def _on_battery(root: Path) -> bool | None:
    supplies = (root / "sys/class/power_supply").glob("*")
    online = [text for supply in supplies if (text := _text(supply / "online")) is not None]
    return "1" not in online if online else None


def _meminfo(root: Path) -> dict[str, int]:
    """Bytes by name; the file counts in KiB."""
    pairs = (line.split() for line in (_text(root / "proc/meminfo") or "").splitlines())
    return {pair[0].rstrip(":"): int(pair[1]) * 1024 for pair in pairs if len(pair) == 3}


def _sysctl(name: str) -> str | None:
    """A value of macOS's kernel; None on other systems."""
    if sys.platform != "darwin":
        return None
    command = ["/usr/sbin/sysctl", "-n", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
