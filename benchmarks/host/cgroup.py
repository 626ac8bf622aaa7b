"""The limits that a control group (of a container or batch job) sets on this process; v1 and v2.

Each function returns None if there is no such limit or counter, as on macOS. `root` is the folder
that holds /proc and /sys. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
_MOUNT = Path("sys/fs/cgroup")


def cpu_quota(*, root: Path = ROOT) -> float | None:
    """The CPU quota of the tightest group, in cores; None if there is no quota."""
    quotas = [
        quota
        for folder in _folders("cpu", root=root)
        for quota in (_quota_v2(folder), _quota_v1(folder))
        if quota is not None
    ]
    return min(quotas, default=None)


def memory_limit_bytes(*, root: Path = ROOT) -> int | None:
    """The memory limit of the tightest group, in bytes; v1 has a huge number for "no limit"."""
    limits = [
        limit
        for folder in _folders("memory", root=root)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (limit := _integer(folder / name)) is not None
    ]
    return min(limits, default=None)


def memory_room_bytes(*, root: Path = ROOT) -> int | None:
    """The bytes that the tightest group still has free; page cache counts as free."""
    rooms = [
        room for folder in _folders("memory", root=root) if (room := _room(folder)) is not None
    ]
    return min(rooms, default=None)


def throttled_ns(*, root: Path = ROOT) -> int | None:
    """Nanoseconds for which CPU quotas have throttled the groups' processes so far."""
    counters = [
        counter
        for folder in _folders("cpu", root=root)
        if (counter := _throttled(folder)) is not None
    ]
    return sum(counters) if counters else None


def path(*, root: Path = ROOT) -> str:
    """The names of this process's groups, which reveal a container; empty if there are none."""
    return _text(root / "proc/self/cgroup") or ""


def _folders(controller: str, *, root: Path) -> Iterator[Path]:
    """The folders of this process's group and of its parents, as far as they are visible."""
    lines = [line.split(":", 2) for line in path(root=root).splitlines() if line.count(":") >= 2]
    for _, controllers, name in sorted(lines, key=lambda line: not line[1]):
        if controllers and controller not in controllers.split(","):
            continue
        for base in (_MOUNT / controllers, _MOUNT / controller, _MOUNT):
            if (root / base).is_dir():
                return _upwards(root / base, name)
    return iter(())


def _upwards(base: Path, name: str) -> Iterator[Path]:
    """The folders that exist, from the group up to the mount: a container sees only its own."""
    parts = [part for part in name.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        folder = base.joinpath(*parts[:length])
        if folder.is_dir():
            yield folder


def _quota_v2(folder: Path) -> float | None:
    fields = (_text(folder / "cpu.max") or "").split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return int(fields[0]) / int(fields[1])


def _quota_v1(folder: Path) -> float | None:
    quota = _integer(folder / "cpu.cfs_quota_us")
    period = _integer(folder / "cpu.cfs_period_us")
    return quota / period if quota and quota > 0 and period else None


def _room(folder: Path) -> int | None:
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = _integer(folder / limit_name), _integer(folder / used_name)
        if limit is not None and used is not None:
            return limit - used + _counters(folder / "memory.stat").get("inactive_file", 0)
    return None


def _throttled(folder: Path) -> int | None:
    counters = _counters(folder / "cpu.stat")
    if "throttled_usec" in counters:
        return counters["throttled_usec"] * 1000
    return counters.get("throttled_time")


def _counters(file: Path) -> dict[str, int]:
    pairs = (line.split() for line in (_text(file) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _integer(file: Path) -> int | None:
    try:
        return int(_text(file) or "")
    except ValueError:
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None
