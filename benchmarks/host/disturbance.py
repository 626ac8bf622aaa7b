"""The disturbances of a turn: the machine's other activity while one launch was timed.

A flag names a cause that was declared beforehand (contract.record.INVALIDATING_FLAGS). A time that
merely looks wrong is never flagged.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contract.message import BlockDone
from benchmarks.host import cpu_time, machine, nvidia
from benchmarks.host.load_trace import LoadTrace, Moment, disturbed_samples

MAX_FOREIGN_SHARE = 0.05
"""Largest share of our CPUs' time that other processes may take during a turn."""
MAX_FOREIGN_CORES = 0.5
"""The same limit in cores: on many cores a single busy one delays every barrier."""
SUSPECT_SHARE = 0.01
"""Share of one CPU's time from which on a thread is worth watching."""
MAX_THROTTLED_SHARE = 0.01
"""Largest share of a turn for which the CPU quota may throttle us."""
CLOCK_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Conditions:
    """The disturbances of one turn."""

    foreign_cpu_share: float | None
    flags: tuple[str, ...]
    runnable_ns: int | None = None
    """Time for which the launch's threads ran or waited for a processor, summed, as
    `cpu_time.runnable_ns`. Of the threads that ended in the turn only what they ran may count."""
    disturbed_samples: tuple[int, ...] = ()
    """The samples that other processes disturbed, if they left some alone."""
    suspects: frozenset[int] = frozenset()
    """The threads of other processes that ran in the turn, to be watched in the next one."""


class Watch:
    """Counters read at the start of a turn, to be compared at its end."""

    def __init__(
        self,
        group: int,
        *,
        ours: Collection[int] = (),
        num_on_accelerator: int = 0,
        suspects: Collection[int] = (),
    ) -> None:
        """Start watching; `group` is the launch's process group, `ours` those that are stopped.

        `num_on_accelerator` is the number of our launches on the accelerator, 0 for a CPU turn.
        `suspects` are threads of other processes, which are watched closely.
        """
        self._group = group
        self._ours = {os.getpid(), *ours}
        self._num_on_accelerator = num_on_accelerator
        self._cpus = _our_cpus()
        self._begin = self._read()
        self._trace = LoadTrace(suspects)

    def end(self) -> None:
        """Stop watching: the turn is over, with a report or without."""
        self._trace.end()

    def conditions(self, done: BlockDone, *, was_stopped: bool = False) -> Conditions:
        """The disturbances since the start, with those that the worker reports.

        `was_stopped` says whether somebody else stopped the worker.
        """
        moments = self._trace.end()
        end = self._read()
        elapsed_ns = end.clock_ns - self._begin.clock_ns
        share = _foreign_share(self._begin, end, elapsed_ns * len(self._cpus))
        throttled_ns = _difference(self._begin.throttled_ns, end.throttled_ns)
        flags = []
        disturbed: tuple[int, ...] = ()
        if share is not None and share > most_foreign_share(len(self._cpus)):
            foreign_ns = share * elapsed_ns * len(self._cpus)
            found = self._disturbed_samples(done, moments, foreign_ns)
            if found is None or len(found) == len(done.request_ns or done.sample_ns):
                flags.append("FOREIGN_LOAD")
            else:
                disturbed = found
        if throttled_ns is not None and throttled_ns > MAX_THROTTLED_SHARE * elapsed_ns:
            flags.append("CPU_QUOTA")
        if done.num_compilations:
            flags.append("RECOMPILED")
        if done.suspended:
            flags.append("SUSPENDED")
        if was_stopped:
            flags.append("STOPPED")
        if _difference(self._begin.swapped_in, end.swapped_in):
            flags.append("SWAP")
        if self._num_on_accelerator:
            flags += accelerator_flags(nvidia.states(), self._num_on_accelerator)
        return Conditions(
            share,
            tuple(flags),
            runnable_ns=_runnable_ns(self._begin, end),
            disturbed_samples=disturbed,
            suspects=_suspects(self._begin, end, elapsed_ns),
        )

    def _disturbed_samples(
        self, done: BlockDone, moments: Sequence[Moment], foreign_ns: float
    ) -> tuple[int, ...] | None:
        """The samples that other processes disturbed; None if that is not known.

        `foreign_ns` is what all of them ran in the turn. What was not watched may have run at any
        time.
        """
        if not moments:
            return None
        limit = most_foreign_share(len(self._cpus)) * len(self._cpus)
        watched_ns = moments[-1].ran_ns - moments[0].ran_ns
        if foreign_ns - watched_ns > limit * done.duration_ns:
            return None
        return disturbed_samples(done, moments, limit=limit)

    def _read(self) -> _Counters:
        processes = cpu_time.reading(self._group, self._ours)
        return _Counters(
            clock_ns=time.perf_counter_ns(),
            busy_ns=cpu_time.busy_ns(self._cpus),
            ours_ns=processes.ours_ns,
            threads=processes.threads,
            others=processes.others if _have_all_cpus() else None,
            parent_ns=time.process_time_ns(),
            throttled_ns=machine.cgroup_throttled_ns(),
            swapped_in=cpu_time.num_pages_swapped_in(),
        )


def _suspects(begin: _Counters, end: _Counters, elapsed_ns: int) -> frozenset[int]:
    """The threads of other processes that took a share of one CPU's time."""
    if begin.others is None or end.others is None:
        return frozenset()
    least_ns = SUSPECT_SHARE * elapsed_ns
    return frozenset(
        thread
        for thread, ran_ns in end.others.items()
        if ran_ns - begin.others.get(thread, 0) > least_ns
    )


def most_foreign_share(num_cpus: int) -> float:
    """The largest share of our CPUs' time that other processes may take."""
    return min(MAX_FOREIGN_SHARE, MAX_FOREIGN_CORES / num_cpus)


def foreign_share(seconds: float, *, ours: Collection[int] = ()) -> float | None:
    """The share of our CPUs' time that other processes take, watched for this many seconds.

    `ours` are the process groups of our launches, all of which are stopped.
    """
    cpus, begin_ns = _our_cpus(), time.perf_counter_ns()
    busy_ns, own_ns = cpu_time.busy_ns(cpus), time.process_time_ns()
    others = _others_ns(ours)
    time.sleep(seconds)
    by_ticks_ns = _difference(busy_ns, cpu_time.busy_ns(cpus))
    if by_ticks_ns is not None:
        by_ticks_ns -= time.process_time_ns() - own_ns
    seen_ns = _seen_ns(others, _others_ns(ours))
    return _share(by_ticks_ns, seen_ns, len(cpus) * (time.perf_counter_ns() - begin_ns))


def is_calm(seconds: float, *, ours: Collection[int]) -> bool:
    """Whether other processes leave our CPUs alone for this long, as `foreign_share`.

    True if the system does not say.
    """
    share = foreign_share(seconds, ours=ours)
    return share is None or share <= most_foreign_share(len(_our_cpus()))


def accelerator_flags(states: Sequence[Mapping[str, Any]], num_ours: int) -> list[str]:
    """The flags of the accelerators' states right after a block.

    Foreign processes are counted, not identified: a container does not see their process ids.
    """
    flags = []
    if any(state["throttle_reasons"] for state in states):
        flags.append("THROTTLED")
    if any((state["num_processes"] or 0) > num_ours for state in states):
        flags.append("FOREIGN_GPU")
    return flags


@dataclass(frozen=True)
class _Counters:
    clock_ns: int
    busy_ns: int | None
    ours_ns: int | None
    threads: Mapping[int, cpu_time.ThreadTime] | None
    others: Mapping[int, int] | None
    parent_ns: int
    throttled_ns: int | None
    swapped_in: int | None


def _difference(begin: int | None, end: int | None) -> int | None:
    return None if begin is None or end is None else end - begin


def _our_cpus() -> list[int]:
    """The CPUs that we and our launches may use; load on other CPUs does not disturb us."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _foreign_share(begin: _Counters, end: _Counters, available_ns: int) -> float | None:
    """Share of our CPUs' time that other processes were busy; None if it is not known."""
    busy_ns = _difference(begin.busy_ns, end.busy_ns)
    ours_ns = _difference(begin.ours_ns, end.ours_ns)
    by_ticks_ns = None
    if busy_ns is not None and ours_ns is not None:
        by_ticks_ns = busy_ns - ours_ns - (end.parent_ns - begin.parent_ns)
    return _share(by_ticks_ns, _seen_ns(begin.others, end.others), available_ns)


def _share(by_ticks_ns: int | None, seen_ns: int | None, available_ns: int) -> float | None:
    """The share that other processes took, by the larger of two readings.

    The machine's counters cover every process and advance in ticks, usually of 10 ms: two ticks are
    subtracted for rounding. Those of the processes that we see are exact.
    """
    known_ns = [] if by_ticks_ns is None else [by_ticks_ns - 2 * CLOCK_TICK_NS]
    known_ns += [] if seen_ns is None else [seen_ns]
    if not known_ns or available_ns <= 0:
        return None
    return max(0.0, *(ns / available_ns for ns in known_ns))


def _seen_ns(begin: Mapping[int, int] | None, end: Mapping[int, int] | None) -> int | None:
    return None if begin is None or end is None else cpu_time.ran_ns(begin, end)


def _have_all_cpus() -> bool:
    """Whether all CPUs are ours: a thread does not tell on which ones it ran."""
    return len(_our_cpus()) >= (os.cpu_count() or 1)


def _others_ns(ours: Collection[int]) -> dict[int, int] | None:
    """What the other processes' threads ran; None if that may have been on CPUs not ours."""
    return cpu_time.reading(os.getpid(), ours).others if _have_all_cpus() else None


def _runnable_ns(begin: _Counters, end: _Counters) -> int | None:
    """Time for which our threads ran or waited; at least their CPU time, less two ticks.

    Only threads that are alive tell how long they waited. The CPU time keeps those that ended.
    """
    if begin.threads is None or end.threads is None:
        return None
    runnable_ns = cpu_time.runnable_ns(begin.threads, end.threads)
    ours_ns = _difference(begin.ours_ns, end.ours_ns)
    return runnable_ns if ours_ns is None else max(runnable_ns, ours_ns - 2 * CLOCK_TICK_NS)
