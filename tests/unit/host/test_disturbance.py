"""What the machine did during a turn becomes a flag only for declared causes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.contract.message import BlockDone, stamp
from benchmarks.host import cpu_time, disturbance
from benchmarks.host.cpu_time import ThreadTime
from benchmarks.host.load_trace import Moment

QUIET = BlockDone(0, 1, 10**9, 10, 0, False)
S = 10**9


class Counters:
    """The machine's counters, set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = self.busy = self.ours = self.parent = self.throttled = 0
        self.swapped: int | None = 0
        self.threads: dict[int, ThreadTime] | None = {}
        self.others: dict[int, int] | None = None
        self.num_cpus = 2
        read = monkeypatch.setattr
        read(disturbance.time, "perf_counter_ns", lambda: self.clock)
        read(disturbance.time, "process_time_ns", lambda: self.parent)
        read(disturbance.cpu_time, "busy_ns", lambda cpus: self.busy)
        read(disturbance.cpu_time, "reading", lambda group, ours: self.reading)
        read(disturbance, "_have_all_cpus", lambda: True)
        read(disturbance.cpu_time, "num_pages_swapped_in", lambda: self.swapped)
        read(disturbance.machine, "cgroup_throttled_ns", lambda: self.throttled)
        read(disturbance, "_our_cpus", lambda: list(range(self.num_cpus)))

    @property
    def reading(self) -> cpu_time.Reading:
        return cpu_time.Reading(self.ours, self.threads, self.others)


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    return Counters(monkeypatch)


def test_our_own_work_is_no_foreign_load(counters: Counters) -> None:
    watch = disturbance.Watch(1)
    counters.clock, counters.busy, counters.ours, counters.parent = S, 2 * S, S * 19 // 10, S // 10
    seen = watch.conditions(QUIET)
    assert seen.foreign_cpu_share == 0.0
    assert seen.flags == ()


def test_a_neighbour_is_foreign_load(counters: Counters) -> None:
    watch = disturbance.Watch(1)
    counters.clock, counters.busy, counters.ours = S, 2 * S, S * 3 // 2
    seen = watch.conditions(QUIET)
    assert seen.foreign_cpu_share == pytest.approx(0.24)
    assert seen.flags == ("FOREIGN_LOAD",)


@pytest.mark.parametrize(("busy_cores", "flags"), [(0.4, ()), (0.6, ("FOREIGN_LOAD",))])
def test_on_many_cores_one_that_is_taken_is_foreign_load(
    counters: Counters, busy_cores: float, flags: tuple[str, ...]
) -> None:
    counters.num_cpus = 64
    watch = disturbance.Watch(1)
    counters.clock, counters.busy = S, round(busy_cores * S) + 2 * disturbance.CLOCK_TICK_NS
    assert watch.conditions(QUIET).flags == flags


@pytest.mark.parametrize(("ran_ms", "flags"), [(10, ()), (27, ("FOREIGN_LOAD",))])
def test_a_neighbour_is_seen_within_a_short_turn(
    counters: Counters, ran_ms: int, flags: tuple[str, ...]
) -> None:
    counters.others = {7: S, 8: 5}
    watch = disturbance.Watch(1)
    counters.clock = S // 4  # of which ticks of 10 ms tell too little
    counters.others = {7: S + ran_ms * S // 1000, 9: 0}
    seen = watch.conditions(QUIET)
    assert seen.foreign_cpu_share == pytest.approx(ran_ms / 500)
    assert seen.flags == flags


class Trace:
    """Readings of a suspect that ran for this long, evenly from 0 to an end."""

    def __init__(self, ran_ns: int, until_ns: int) -> None:
        self.ran_ns, self.until_ns = ran_ns, until_ns

    def end(self) -> list[Moment]:
        return [
            Moment(at, min(at, self.until_ns) * self.ran_ns // self.until_ns)
            for at in range(0, S + 1, S // 100)
        ]


def spoilt_in_part(
    counters: Counters, monkeypatch: pytest.MonkeyPatch, *, ran: float, until: float
) -> disturbance.Conditions:
    """A turn of a second with four samples, in which others ran for .4 s.

    A suspect among them ran for `ran` seconds, all before `until`.
    """
    trace = Trace(round(ran * S), round(until * S))
    monkeypatch.setattr(disturbance, "LoadTrace", lambda threads: trace)
    counters.others = {7: 0, 8: 0}
    watch = disturbance.Watch(1, suspects={7})
    done = BlockDone(0, 4, S, 10, 0, False, sample_ns=(S // 4,) * 4)
    stamp(done, 1.0)
    counters.clock, counters.others = S, {7: S * 4 // 10, 8: S // 200}
    return watch.conditions(done)


def test_a_load_that_ends_within_a_turn_spoils_a_part_of_it(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoilt_in_part(counters, monkeypatch, ran=0.4, until=0.4)
    assert (seen.flags, seen.disturbed_samples) == ((), (0, 1))
    assert seen.suspects == {7}


def test_a_turn_is_disturbed_as_a_whole_if_no_sample_is_left(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoilt_in_part(counters, monkeypatch, ran=0.4, until=1.0)
    assert (seen.flags, seen.disturbed_samples) == (("FOREIGN_LOAD",), ())


def test_a_load_that_was_not_watched_may_have_run_at_any_time(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoilt_in_part(counters, monkeypatch, ran=0.2, until=0.4)
    assert (seen.flags, seen.disturbed_samples) == (("FOREIGN_LOAD",), ())


@pytest.mark.parametrize(
    ("change", "flag"),
    [({"throttled": S // 50}, "CPU_QUOTA"), ({"swapped": 4}, "SWAP")],
)
def test_counters_that_must_not_move(counters: Counters, change: Any, flag: str) -> None:
    watch = disturbance.Watch(1)
    counters.clock = S
    vars(counters).update(change)
    assert watch.conditions(QUIET).flags == (flag,)


@pytest.mark.parametrize(
    ("threads", "ours", "expected"),
    [
        ({1: ThreadTime(2 * S, S // 2)}, S // 2, S + S // 2),  # that waited for a processor
        ({1: ThreadTime(S + S // 10, 0)}, S, S - 2 * disturbance.CLOCK_TICK_NS),  # others ended
        ({}, S, S - 2 * disturbance.CLOCK_TICK_NS),
        ({1: ThreadTime(S + S // 2, 0)}, S // 2 + disturbance.CLOCK_TICK_NS, S // 2),  # rounding
        (None, S, None),
    ],
)
def test_threads_that_end_in_the_turn_count_too(
    counters: Counters, threads: dict[int, ThreadTime] | None, ours: int, expected: int | None
) -> None:
    counters.threads = {1: ThreadTime(S, 0)}
    watch = disturbance.Watch(1)
    counters.clock, counters.busy, counters.ours = S, ours, ours
    counters.threads = threads
    assert watch.conditions(QUIET).runnable_ns == expected


def test_a_stop_by_somebody_else_is_a_flag_of_its_own(counters: Counters) -> None:
    assert disturbance.Watch(1).conditions(QUIET, was_stopped=True).flags == ("STOPPED",)


@pytest.mark.parametrize("busy_cores", [0.0, 0.5, 2.0])
def test_foreign_load_is_watched_for_a_while(
    busy_cores: float, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        counters.clock, counters.parent = S, S // 100
        counters.busy = round(busy_cores * S) + S // 100 + 2 * disturbance.CLOCK_TICK_NS

    monkeypatch.setattr(disturbance.time, "sleep", sleep)
    assert disturbance.foreign_share(1.0) == pytest.approx(busy_cores / 2)


@pytest.mark.parametrize(("ran_ms", "is_calm"), [(9, True), (11, False)])
def test_a_moment_is_calm_if_others_take_less_than_a_turn_may_lose(
    ran_ms: int, is_calm: bool, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters.others = {7: 0}

    def sleep(seconds: float) -> None:
        counters.clock, counters.others = S // 10, {7: ran_ms * S // 1000}

    monkeypatch.setattr(disturbance.time, "sleep", sleep)
    assert disturbance.is_calm(0.1, ours=()) == is_calm


@pytest.mark.parametrize(
    ("done", "flag"),
    [
        (BlockDone(0, 1, S, 10, 2, False), "RECOMPILED"),
        (BlockDone(0, 1, S, 10, None, True), "SUSPENDED"),
    ],
)
def test_what_the_worker_reports(counters: Counters, done: BlockDone, flag: str) -> None:
    watch = disturbance.Watch(1)
    counters.clock = S
    assert watch.conditions(done).flags == (flag,)


@pytest.mark.parametrize(
    ("state", "flags"),
    [
        ({"throttle_reasons": [], "num_processes": 2}, []),
        ({"throttle_reasons": None, "num_processes": None}, []),
        ({"throttle_reasons": ["hardware thermal slowdown"], "num_processes": 1}, ["THROTTLED"]),
        ({"throttle_reasons": [], "num_processes": 3}, ["FOREIGN_GPU"]),
    ],
)
def test_an_accelerator_that_is_hot_or_shared(state: Any, flags: list[str]) -> None:
    assert disturbance.accelerator_flags([state], num_ours=2) == flags
