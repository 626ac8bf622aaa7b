"""Which samples of a turn other processes disturbed, from readings taken while it was timed."""

from __future__ import annotations

import os
import threading
import time

import pytest

from benchmarks.contract.message import BlockDone, stamp
from benchmarks.host import cpu_time
from benchmarks.host.load_trace import LoadTrace, Moment, disturbed_samples

MS = 10**6


def turn(*samples_ms: int, preparation_ms: int = 0) -> BlockDone:
    """A turn that ends 1 s after the clock's zero."""
    samples_ns = tuple(ms * MS for ms in samples_ms)
    done = BlockDone(
        *(0, len(samples_ns), sum(samples_ns), 10, 0, False),
        sample_ns=samples_ns,
        preparation_ns=preparation_ms * MS,
    )
    stamp(done, 1.0)
    return done


def moments(*busy_ms: tuple[int, int], until_ms: int = 1010) -> list[Moment]:
    """Readings every 10 ms of a load that runs from the first to the second time of each pair."""
    return [
        Moment(at * MS, sum(max(0, min(at, end) - begin) for begin, end in busy_ms) * MS)
        for at in range(0, until_ms, 10)
    ]


@pytest.mark.parametrize(
    ("busy_ms", "expected"),
    [
        ([], ()),
        ([(0, 690)], ()),  # it ends before the turn
        ([(0, 750)], (0,)),
        ([(850, 1000)], (1, 2)),
        ([(720, 740), (960, 1000)], (0, 2)),
        ([(850, 858)], ()),  # 8 % of a sample is within the limit
        ([(0, 1000)], (0, 1, 2)),
    ],
)
def test_samples_in_which_others_ran_are_disturbed(
    busy_ms: list[tuple[int, int]], expected: tuple[int, ...]
) -> None:
    """The samples last from 700 to 800, 900 and 1000 ms."""
    assert disturbed_samples(turn(100, 100, 100), moments(*busy_ms), limit=0.1) == expected


def test_where_samples_lie_is_not_known_if_much_was_prepared_between_them() -> None:
    assert disturbed_samples(turn(100, 100, preparation_ms=5), moments(), limit=0.1) is None
    assert disturbed_samples(turn(100, 100, preparation_ms=3), moments(), limit=0.1) == ()


def test_without_readings_nothing_is_known() -> None:
    assert disturbed_samples(turn(100, 100), [], limit=0.1) is None


def test_nothing_is_read_if_nobody_is_suspected() -> None:
    num_threads = threading.active_count()
    trace = LoadTrace(())
    assert threading.active_count() == num_threads
    assert trace.end() == []


@pytest.mark.skipif(
    not os.path.exists("/proc/self/schedstat"), reason="the system tells no thread's time"
)
def test_what_a_thread_runs_is_seen_as_it_runs() -> None:
    trace = LoadTrace({threading.get_native_id()})
    begin_ns = time.thread_time_ns()
    while time.thread_time_ns() - begin_ns < 100 * MS:
        pass
    seen = trace.end()
    assert len(seen) > 2
    assert seen[-1].ran_ns - seen[0].ran_ns == pytest.approx(100 * MS, rel=0.3)
    assert [one.at_ns for one in seen] == sorted(one.at_ns for one in seen)


def test_a_thread_that_has_ended_has_run_nothing(tmp_path) -> None:
    thread = tmp_path / "proc" / "7"
    thread.mkdir(parents=True)
    (thread / "schedstat").write_text("123 45 6\n")
    assert cpu_time.threads_ran_ns([7, 8], root=tmp_path) == 123
