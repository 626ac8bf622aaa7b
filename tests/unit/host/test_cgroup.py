from pathlib import Path

import pytest

from benchmarks.host import cgroup

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """A job inside of a slice, as systemd lays them out: the slice is the tighter one on CPU."""
    return write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/batch.slice/job.scope\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/batch.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/batch.slice/cpu.stat": "usage_usec 9\nthrottled_usec 40\n",
            "sys/fs/cgroup/batch.slice/memory.max": "max\n",
            "sys/fs/cgroup/batch.slice/job.scope/cpu.max": "max 100000\n",
            "sys/fs/cgroup/batch.slice/job.scope/cpu.stat": "usage_usec 9\nthrottled_usec 2\n",
            "sys/fs/cgroup/batch.slice/job.scope/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/batch.slice/job.scope/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/batch.slice/job.scope/memory.stat": f"anon 1\ninactive_file {GIB}\n",
        },
    )


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    """A container that is told the host's path and sees its own group at the mount."""
    return write(
        tmp_path,
        {
            "proc/self/cgroup": "9:memory:/docker/0a\n4:cpu,cpuacct:/docker/0a\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_throttled 3\nthrottled_time 1234\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/unified/cgroup.controllers": "\n",
        },
    )


def test_the_tightest_group_counts_in_v2(v2: Path) -> None:
    assert cgroup.cpu_quota(root=v2) == 1.5
    assert cgroup.memory_limit_bytes(root=v2) == 4 * GIB


def test_page_cache_counts_as_room(v2: Path) -> None:
    assert cgroup.memory_room_bytes(root=v2) == 2 * GIB


def test_throttling_of_every_level_counts(v2: Path) -> None:
    assert cgroup.throttled_ns(root=v2) == 42_000


def test_reads_v1_at_the_mount_of_a_container(v1: Path) -> None:
    assert cgroup.cpu_quota(root=v1) == 3.0
    assert cgroup.memory_limit_bytes(root=v1) == 2 * GIB
    assert cgroup.memory_room_bytes(root=v1) == GIB
    assert cgroup.throttled_ns(root=v1) == 1234


def test_no_quota_is_none_and_not_zero(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "1:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup.cpu_quota(root=root) is None


def test_a_system_without_control_groups_says_nothing(tmp_path: Path) -> None:
    assert cgroup.cpu_quota(root=tmp_path) is None
    assert cgroup.memory_limit_bytes(root=tmp_path) is None
    assert cgroup.memory_room_bytes(root=tmp_path) is None
    assert cgroup.throttled_ns(root=tmp_path) is None


def test_a_group_never_leads_out_of_the_mount(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../../other\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/other/cpu.max": "1000 100000\n",
        },
    )
    assert cgroup.cpu_quota(root=root) is None
