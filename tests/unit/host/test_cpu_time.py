import os
from pathlib import Path

import pytest

from benchmarks.host import cpu_time

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

STAT = (
    "cpu  900 900 900 9000 900 900 900 900 900 900\n"
    "cpu0 100 20 3 5000 600 7 8 9 50 5\n"
    "cpu1 1 1 1 1 1 1 1 1 1 1\n"
    "cpu10 70 0 0 0 0 0 0 0 0 0\nintr 4711\n"
)


def process_stat(pid: int, command: str, *, group: int, session: int, ticks: list[int]) -> str:
    times = " ".join(map(str, ticks))
    return (
        f"{pid} ({command}) S 1 {group} {session} 0 -1 4194560 0 0 0 0 {times} 20 0 1 0 {pid}77 0\n"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    stats = {
        10: process_stat(10, "python", group=10, session=10, ticks=[5, 6, 70, 800]),
        11: process_stat(11, "a) b (c\nd", group=10, session=10, ticks=[1, 0, 0, 0]),
        12: process_stat(12, "helper", group=12, session=10, ticks=[2, 0, 0, 0]),
        13: process_stat(13, "foreign", group=13, session=13, ticks=[4, 0, 0, 0]),
        14: "",
    }
    for pid, text in stats.items():
        (tmp_path / "proc" / str(pid)).mkdir(parents=True)
        (tmp_path / "proc" / str(pid) / "stat").write_text(text)
    (tmp_path / "proc" / "15").mkdir()
    (tmp_path / "proc" / "self").mkdir()
    (tmp_path / "proc" / "self" / "schedstat").write_text("1 1 1\n")
    for pid, thread, text in (
        (10, 10, "700 40 9"),
        (10, 110, "5 600 3"),
        (10, 111, ""),
        (12, 12, "8 9 1"),
        (13, 13, "1000 1000 1"),
    ):
        (tmp_path / f"proc/{pid}/task/{thread}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/task/{thread}/schedstat").write_text(f"{text}\n")
    (tmp_path / "proc" / "stat").write_text(STAT)
    (tmp_path / "proc" / "vmstat").write_text("pgpgin 5\npswpin 42\npswpout 7\n")
    return tmp_path


def test_busy_time_is_all_but_idle_and_waiting_and_counts_guests_once(root: Path) -> None:
    assert cpu_time.busy_ns([0], root=root) == (100 + 20 + 3 + 7 + 8 + 9) * TICK_NS


def test_busy_time_is_that_of_the_cpus_asked_for(root: Path) -> None:
    assert cpu_time.busy_ns([1], root=root) == 6 * TICK_NS
    assert cpu_time.busy_ns([1, 10], root=root) == 76 * TICK_NS
    assert cpu_time.busy_ns([1, 2], root=root) is None
    assert cpu_time.busy_ns([], root=root) is None


def test_a_group_holds_its_session_and_the_children_it_waited_for(root: Path) -> None:
    assert cpu_time.reading(10, (), root=root).ours_ns == (5 + 6 + 70 + 800 + 1 + 2) * TICK_NS


def test_a_group_without_live_processes_has_used_nothing(root: Path) -> None:
    assert cpu_time.reading(99, (), root=root).ours_ns == 0


def test_a_group_s_threads_are_those_of_its_processes_that_live(root: Path) -> None:
    assert cpu_time.reading(10, (), root=root).threads == {10: (700, 40), 110: (5, 600), 12: (8, 9)}
    assert cpu_time.reading(99, (), root=root).threads == {}


def test_other_processes_threads_are_those_outside_of_our_groups(root: Path) -> None:
    assert cpu_time.reading(10, (), root=root).others == {13: 1000}
    assert cpu_time.reading(13, (), root=root).others == {10: 700, 110: 5, 12: 8}
    assert cpu_time.reading(99, [10], root=root).others == {13: 1000}


def test_what_others_ran_counts_new_threads_whole() -> None:
    assert cpu_time.ran_ns({1: 100, 2: 50}, {1: 130, 2: 40, 3: 7}) == 37


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ((1100, 50), 100),  # it ran
        ((1100, 430), 100 + 380),  # and waited
        ((1002, 15_050), 2 + 8),  # an idle thread that was woken on a busy machine
        ((1000, 15_050), 0),
        ((40, 30), 0),  # another thread that was given the number of one that ended
    ],
)
def test_a_thread_s_waiting_counts_if_it_ran(end: tuple[int, int], expected: int) -> None:
    begin = {7: cpu_time.ThreadTime(1000, 50), 8: cpu_time.ThreadTime(4, 4)}
    assert cpu_time.runnable_ns(begin, {7: cpu_time.ThreadTime(*end)}) == expected


def test_a_thread_that_began_meanwhile_counts_whole() -> None:
    assert cpu_time.runnable_ns({}, {7: cpu_time.ThreadTime(100, 30)}) == 130


def test_a_process_is_named_by_its_start(root: Path) -> None:
    assert cpu_time.process_start_ticks(11, root=root) == 1177
    assert cpu_time.process_start_ticks(14, root=root) is None
    assert cpu_time.process_start_ticks(99, root=root) is None


def test_reads_pages_swapped_in(root: Path) -> None:
    assert cpu_time.num_pages_swapped_in(root=root) == 42


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert cpu_time.busy_ns([0], root=tmp_path) is None
    assert cpu_time.reading(10, (), root=tmp_path).ours_ns is None
    assert cpu_time.reading(10, (), root=tmp_path).threads is None
    assert cpu_time.reading(10, (), root=tmp_path).others is None
    assert cpu_time.num_pages_swapped_in(root=tmp_path) is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux's /proc")
def test_own_time_is_part_of_the_machine_s() -> None:
    ours_ns = cpu_time.reading(os.getpgrp(), ()).ours_ns
    busy_ns = cpu_time.busy_ns(os.sched_getaffinity(0))
    assert ours_ns is not None
    assert busy_ns is not None
    assert ours_ns > 0
    assert busy_ns > 0
