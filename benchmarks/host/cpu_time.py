"""CPU time of the machine and of process groups, to measure the load of other processes.

Each function returns None if the system does not say, as on macOS. Counters of CPUs and groups
advance in clock ticks, usually of 10 ms; those of threads are exact to the nanosecond. `root` is
the folder that holds /proc. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
NS_PER_S = 1_000_000_000
_BUSY_FIELDS = (0, 1, 2, 5, 6, 7)
"""user, nice, system, irq, softirq, steal; user includes guest time (proc(5))."""

MAX_WAITING = 4
"""How many times as long as it runs a thread with work may wait; ten such threads on two CPUs each
do. Idle threads of JAX that were woken waited for a hundred times as long and more."""


class ThreadTime(NamedTuple):
    """A thread's time since it began. Source: the kernel's documentation, scheduler/sched-stats."""

    ran_ns: int
    waited_ns: int
    """For a processor, in times that have ended."""


class _Process(NamedTuple):
    pid: int
    group: int
    session: int
    ticks: int
    start_ticks: int


def busy_ns(cpus: Collection[int], *, root: Path = ROOT) -> int | None:
    """Nanoseconds for which these CPUs have been busy since the machine started, summed."""
    names = {f"cpu{number}" for number in cpus}
    lines = [line.split() for line in _text(root / "proc/stat").splitlines()]
    found = [
        [int(field) for field in fields[1:]]
        for fields in lines
        if fields[:1] and fields[0] in names
    ]
    if len(found) < len(names) or not names:
        return None
    return _ns(sum(ticks[i] for ticks in found for i in _BUSY_FIELDS if i < len(ticks)))


class Reading(NamedTuple):
    """The counters of all live processes at one moment; None if the system does not say."""

    ours_ns: int | None
    """CPU time of the group's live processes, in ticks. A parent's time includes its reaped
    children's, so that the sum does not fall when a helper ends."""
    threads: dict[int, ThreadTime] | None
    """What each live thread of the group has had of the processors, by thread id."""
    others: dict[int, int] | None
    """What each live thread of processes outside of our groups has run, by thread id.

    Processes that this one cannot see, such as those of other containers, are not among them.
    """


def reading(group: int, ours: Collection[int], *, root: Path = ROOT) -> Reading:
    """The counters of one group or session, and of what is not ours, in one pass over /proc.

    `ours` are the groups or sessions, and single processes, that are ours beside the group.
    """
    if not (root / "proc/self").exists():
        return Reading(None, None, None)
    ticks = 0
    threads: dict[int, ThreadTime] = {}
    others: dict[int, int] = {}
    known = {group, *ours}
    for process in _processes(root):
        belongs = group in (process.group, process.session)
        if belongs:
            ticks += process.ticks
        elif known & {process.pid, process.group, process.session}:
            continue
        for thread, ran_ns, waited_ns in _threads(root, process.pid):
            if belongs:
                threads[thread] = ThreadTime(ran_ns, waited_ns)
            else:
                others[thread] = ran_ns
    if not (root / "proc/self/schedstat").exists():
        return Reading(_ns(ticks), None, None)
    return Reading(_ns(ticks), threads, others)


def _threads(root: Path, pid: int) -> Iterator[tuple[int, int, int]]:
    """Each live thread of a process: its id, and the nanoseconds for which it ran and waited."""
    folder = f"{root}/proc/{pid}/task"
    with contextlib.suppress(OSError):
        for thread in os.listdir(folder):
            fields = _text(f"{folder}/{thread}/schedstat").split()
            if len(fields) >= 2:
                yield int(thread), int(fields[0]), int(fields[1])


def threads_ran_ns(threads: Collection[int], *, root: Path = ROOT) -> int:
    """Nanoseconds that these threads have run, summed; of one that has ended, none."""
    fields = (_text(f"{root}/proc/{thread}/schedstat").split() for thread in threads)
    return sum(int(one[0]) for one in fields if one)


def ran_ns(begin: Mapping[int, int], end: Mapping[int, int]) -> int:
    """Nanoseconds that threads ran between two readings, summed, those that are new included."""
    return sum(max(0, ran_ns - begin.get(thread, 0)) for thread, ran_ns in end.items())


def runnable_ns(begin: Mapping[int, ThreadTime], end: Mapping[int, ThreadTime]) -> int:
    """Nanoseconds for which threads ran or waited for a processor between two readings, summed.

    Divided by the time between them, this is the mean number of threads that had work, however busy
    the machine was. Of a thread's waiting no more counts than MAX_WAITING times the time that it
    ran: when a process is continued after a stop, each of its idle threads runs for an instant, and
    on a busy machine all of them wait for that.
    """
    total = 0
    for thread, (ran_ns, waited_ns) in end.items():
        before = begin.get(thread, ThreadTime(0, 0))
        ran_ns = max(0, ran_ns - before.ran_ns)
        total += ran_ns + min(MAX_WAITING * ran_ns, max(0, waited_ns - before.waited_ns))
    return total


def process_start_ticks(pid: int, *, root: Path = ROOT) -> int | None:
    """The start time of a process, in ticks since boot; with its pid it identifies a process."""
    process = _process(f"{root}/proc/{pid}/stat", pid)
    return None if process is None else process.start_ticks


def num_pages_swapped_in(*, root: Path = ROOT) -> int | None:
    """Pages that the machine has read back from swap since it started."""
    lines = _text(root / "proc/vmstat").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("pswpin ")), None)


def _processes(root: Path) -> Iterator[_Process]:
    for name in os.listdir(root / "proc"):
        if name.isdigit():
            process = _process(f"{root}/proc/{name}/stat", int(name))
            if process is not None:
                yield process


def _process(file: str, pid: int) -> _Process | None:
    """The process of a stat file; its command may hold spaces, brackets and newlines."""
    fields = _text(file).rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    return _Process(
        pid=pid,
        group=int(fields[2]),
        session=int(fields[3]),
        ticks=sum(int(field) for field in fields[11:15]),
        start_ticks=int(fields[19]),
    )


def _text(file: Path | str) -> str:
    """The text of a file; empty if it is missing: a process may end at any time."""
    try:
        with open(file, "rb") as opened:
            return opened.read().decode(errors="replace")
    except OSError:
        return ""


def _ns(ticks: int) -> int:
    return ticks * (NS_PER_S // os.sysconf("SC_CLK_TCK"))
