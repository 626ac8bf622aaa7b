import getpass
import json
import os
import platform
from pathlib import Path

import pytest

from benchmarks.host import machine, nvidia

GIB = 2**30

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse2 hypervisor avx2 avx512f amx_bf16 amx_tile avx512_bf16 amx_int8

processor\t: 1
model name\t: another
flags\t\t: fpu

"""
ARM_CPUINFO = """processor\t: 0
BogoMIPS\t: 2000.00
Features\t: fp asimd sve bf16
CPU implementer\t: 0x41
CPU part\t: 0xd4f

"""
MEMINFO = f"""MemTotal:       {16 * 2**20} kB
MemFree:        {1 * 2**20} kB
MemAvailable:   {3 * 2**20} kB
SwapTotal:      {2 * 2**20} kB
SwapFree:       {1 * 2**20} kB
HugePages_Total:       0
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(nvidia, "devices", list)
    monkeypatch.setattr(nvidia, "states", list)
    return write(
        tmp_path,
        {
            "proc/cpuinfo": CPUINFO,
            "proc/meminfo": MEMINFO,
            "proc/loadavg": "1.50 0.75 0.25 2/345 6789\n",
            "proc/pressure/cpu": "some avg10=12.50 avg60=1 avg300=0 total=9\nfull avg10=0.00\n",
            "sys/devices/system/node/node0/cpulist": "0\n",
            "sys/devices/system/node/node1/cpulist": "1\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
            "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
            "sys/class/power_supply/AC/online": "0\n",
            "sys/class/power_supply/BAT0/capacity": "80\n",
        },
    )


def limit(root: Path, *, cpu: str = "max 100000", memory: str = "max") -> None:
    write(
        root,
        {
            "proc/self/cgroup": "0::/kubepods/pod\n",
            "sys/fs/cgroup/cpu.max": cpu,
            "sys/fs/cgroup/memory.max": memory,
            "sys/fs/cgroup/memory.current": "0",
        },
    )


@pytest.mark.parametrize(("cpu", "cores"), [("50000 100000", 1), ("100000 100000", 1)])
def test_cores_are_cut_by_the_quota_and_never_below_one(root: Path, cpu: str, cores: int) -> None:
    limit(root, cpu=cpu)
    assert machine.effective_cores(root=root) == cores


def test_cores_are_those_of_the_affinity_where_the_quota_is_wider(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert machine.effective_cores(root=root) == 3
    limit(root, cpu="900000 100000")
    assert machine.effective_cores(root=root) == 3
    limit(root, cpu="250000 100000")
    assert machine.effective_cores(root=root) == 2


def test_memory_is_the_machine_s_or_the_group_s_limit(root: Path) -> None:
    assert machine.total_memory_bytes(root=root) == 16 * GIB
    limit(root, memory=str(5 * GIB))
    assert machine.total_memory_bytes(root=root) == 5 * GIB


def test_names_the_cpu_and_the_instructions_that_matter(root: Path) -> None:
    found = machine.fingerprint(root=root)
    assert found["cpu"] == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert found["cpu_flags"] == [
        "avx2",
        "avx512f",
        "avx512_bf16",
        "amx_bf16",
        "amx_int8",
        "amx_tile",
    ]
    assert found["num_numa_nodes"] == 2
    assert found["virtualised"] is True
    assert found["container"] is False
    assert found["accelerators"] == []


def test_an_arm_machine_is_named_by_its_part_and_says_nothing_of_virtualisation(root: Path) -> None:
    write(root, {"proc/cpuinfo": ARM_CPUINFO})
    found = machine.fingerprint(root=root)
    assert found["cpu"] == "Arm implementer 0x41 part 0xd4f"
    assert found["cpu_flags"] == ["asimd", "bf16", "sve"]
    assert found["virtualised"] is None


def test_a_container_is_told_by_its_group_or_its_mark(root: Path) -> None:
    (root / ".dockerenv").touch()
    assert machine.fingerprint(root=root)["container"] is True
    (root / ".dockerenv").unlink()
    limit(root)
    assert machine.fingerprint(root=root)["container"] is True


def test_the_fingerprint_of_this_machine_is_json_without_names_of_people_or_hosts() -> None:
    text = json.dumps(machine.fingerprint())
    assert f'"{getpass.getuser()}"' not in text
    assert f'"{platform.node()}"' not in text


DEVICE = {
    "name": "NVIDIA H200",
    "memory_bytes": 141 * GIB,
    "driver": "580.65.06",
    "power_limit_w": 700.0,
    "max_sm_clock_mhz": 1980,
    "mig": False,
    "ecc": True,
}


@pytest.mark.parametrize(
    "change",
    [
        {"cpu": "another"},
        {"cpu_flags": ["avx2"]},
        {"num_cores": 3},
        {"num_numa_nodes": 1},
        {"memory_bytes": 32 * GIB},
        {"os": "darwin"},
        {"architecture": "another"},
        {"virtualised": False},
        {"container": True},
        {"accelerators": []},
        {"accelerators": [DEVICE, DEVICE]},
        {"accelerators": [{**DEVICE, "driver": "590.01"}]},
        {"accelerators": [{**DEVICE, "power_limit_w": 350.0}]},
        {"accelerators": [{**DEVICE, "mig": True}]},
    ],
    ids=str,
)
def test_the_key_changes_with_the_hardware(root: Path, change: dict) -> None:
    known = {**machine.fingerprint(root=root), "accelerators": [DEVICE]}
    assert machine.fingerprint_key({**known, **change}) != machine.fingerprint_key(known)


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": "7.0"},
        {"memory_bytes": 16 * GIB - 200_000_000},
        {"accelerators": [{**DEVICE, "driver": "580.99"}]},
    ],
    ids=str,
)
def test_the_key_stays_with_what_changes_from_day_to_day(root: Path, change: dict) -> None:
    known = {**machine.fingerprint(root=root), "accelerators": [DEVICE]}
    assert machine.fingerprint_key({**known, **change}) == machine.fingerprint_key(known)


def test_the_state_holds_what_may_spoil_a_measurement(root: Path) -> None:
    assert machine.state(root=root) == {
        "load_average": [1.5, 0.75, 0.25],
        "cpu_pressure_percent": 12.5,
        "governor": "powersave",
        "turbo": True,
        "num_thermal_throttles": 7,
        "cpu_quota_cores": None,
        "cgroup_throttled_ns": None,
        "memory_available_bytes": 3 * GIB,
        "swap_used_bytes": GIB,
        "on_battery": True,
        "accelerators": [],
    }


def test_what_is_not_known_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "states", list)
    state = machine.state(root=tmp_path)
    assert state.pop("accelerators") == []
    assert set(state.values()) == {None}


def test_memory_that_nobody_knows_is_an_error_and_not_zero(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="does not say how much memory"):
        machine.total_memory_bytes(root=tmp_path)
