"""The supervisor: messages, limits, stopping, and the end of whole process trees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.contract.message import Finish, Phase, Turn
from benchmarks.running.guard import Guard
from benchmarks.running.process import (
    Command,
    Worker,
    WorkerGoneError,
    WorkerTimeoutError,
)
from benchmarks.running.watchdog import marked_processes

PREAMBLE = """
import json, os, signal, subprocess, sys, time
read_fd, write_fd = int(sys.argv[1]), int(sys.argv[2])
def say(name):
    line = json.dumps({"type": "Phase", "sent_s": 0.0, "name": name})
    os.write(write_fd, line.encode() + b"\\n")
def hear(): return json.loads(os.fdopen(read_fd, closefd=False).readline())
"""


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as opened:
        yield opened


def start(script: str, guard: Guard, folder: Path) -> Worker:
    command = Command(
        mark=f"test-{os.getpid()}-{folder.name}",
        arguments=(sys.executable, "-u", "-c", PREAMBLE + textwrap.dedent(script)),
        environment={"PATH": os.environ["PATH"]},
        folder=folder,
        log=folder / "log",
    )
    return Worker(command, guard)


def hear(worker: Worker, timeout_s: float = 20.0) -> object:
    return worker.receive(timeout_s=timeout_s, tick=lambda: None)


def test_messages_go_both_ways_and_stdout_is_only_a_log(guard: Guard, tmp_path: Path) -> None:
    worker = start(
        """
        print('{"type": "Phase", "name": "forged"}', flush=True)
        say(hear()["type"])
        """,
        guard,
        tmp_path,
    )
    worker.send(Finish())
    assert hear(worker) == Phase("Finish")
    assert worker.end(grace_s=10.0) == 0
    assert "forged" in (tmp_path / "log").read_text()


def test_silence_is_a_timeout_and_the_stack_is_in_the_log(guard: Guard, tmp_path: Path) -> None:
    worker = start(
        """
        import faulthandler; faulthandler.enable()
        def in_a_deadlock(): time.sleep(600)
        say("ready"); in_a_deadlock()
        """,
        guard,
        tmp_path,
    )
    hear(worker)
    with pytest.raises(WorkerTimeoutError, match=r"no answer within 0\.2 s"):
        hear(worker, 0.2)
    worker.dump_stack()
    worker.end(grace_s=5.0)
    assert "in_a_deadlock" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    "script", ["pass", "print('x')", "os.write(write_fd, b'no message\\n'); time.sleep(9)"]
)
def test_an_end_without_a_word_is_seen(script: str, guard: Guard, tmp_path: Path) -> None:
    worker = start(script, guard, tmp_path)
    with pytest.raises(WorkerGoneError):
        hear(worker)
    worker.end(grace_s=0.0)


def test_an_end_is_seen_though_a_child_holds_the_channel(guard: Guard, tmp_path: Path) -> None:
    worker = start(
        """
        subprocess.Popen(["sleep", "600"], pass_fds=(write_fd,))
        os._exit(7)
        """,
        guard,
        tmp_path,
    )
    with pytest.raises(WorkerGoneError):
        hear(worker)
    assert worker.end(grace_s=5.0) == 7
    assert marked_processes({worker.mark}) == []


def test_a_stopped_group_is_stopped_whole_and_goes_on(guard: Guard, tmp_path: Path) -> None:
    worker = start(
        """
        child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        say("spinning"); hear(); child.kill(); child.wait(); say("resumed")
        """,
        guard,
        tmp_path,
    )
    hear(worker)
    worker.stop()
    assert {process.status() for process in worker.tree()} == {psutil.STATUS_STOPPED}
    worker.send(Turn(0, 1))
    worker.resume()
    assert hear(worker) == Phase("resumed")
    worker.end(grace_s=10.0)


def test_a_tree_that_ignores_sigterm_and_leaves_the_group_is_reaped(
    guard: Guard, tmp_path: Path
) -> None:
    worker = start(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "600"])
        subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
        say("ready"); time.sleep(600)
        """,
        guard,
        tmp_path,
    )
    hear(worker)
    await_count({worker.mark}, 4)
    worker.stop()
    assert worker.end(grace_s=0.0) is None
    assert marked_processes({worker.mark}) == []
    zombies = [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE]
    assert zombies == []


def test_a_flood_of_output_blocks_nobody_and_is_cut(guard: Guard, tmp_path: Path) -> None:
    worker = start(
        """
        for _ in range(20): os.write(1, b"y" * 2**20)
        print("the end", flush=True)
        say("done")
        """,
        guard,
        tmp_path,
    )
    assert hear(worker) == Phase("done")
    worker.end(grace_s=10.0)
    log = (tmp_path / "log").read_bytes()
    assert len(log) < 11 * 2**20
    assert log.endswith(b"the end\n")
    assert b"bytes dropped" in log


def test_the_environment_is_what_was_given(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "canary-4711")
    worker = start("print(sorted(os.environ), flush=True)", guard, tmp_path)
    with pytest.raises(WorkerGoneError):
        hear(worker)
    worker.end(grace_s=5.0)
    assert "API_TOKEN" not in (tmp_path / "log").read_text()


def test_the_watchdog_ends_what_a_killed_parent_leaves(tmp_path: Path) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from benchmarks.running.guard import Guard
        from benchmarks.running.process import Command, Worker
        with Guard() as guard:
            child = "import subprocess, time; subprocess.Popen(['setsid', 'sleep', '600']); "
            command = (sys.executable, "-c", child + "time.sleep(600)")
            Worker(Command("orphan-{os.getpid()}", command, {{"PATH": "/usr/bin:/bin"}},
                           Path({str(tmp_path)!r}), Path({str(tmp_path / "log")!r})), guard)
            print("started", flush=True)
            input()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    mark = {f"orphan-{os.getpid()}"}
    await_count(mark, 2)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    await_count(mark, 0)


def await_count(mark: set[str], count: int) -> None:
    """Return once this many processes carry the mark."""
    deadline = time.monotonic() + 20
    while len(marked_processes(mark)) != count:
        assert time.monotonic() < deadline, marked_processes(mark)
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not tell a parent")
def test_a_stop_by_somebody_else_is_seen_and_our_own_is_not(guard: Guard, tmp_path: Path) -> None:
    worker = start("say('ready'); time.sleep(60)", guard, tmp_path)
    hear(worker)
    for stopped_by_others in (False, True, False):
        worker.stop()
        worker.resume()
        if stopped_by_others:
            os.kill(worker.pid, signal.SIGSTOP)
            while psutil.Process(worker.pid).status() != psutil.STATUS_STOPPED:
                time.sleep(0.001)
            os.kill(worker.pid, signal.SIGCONT)
        worker.stop()
        assert worker.was_stopped is stopped_by_others
    worker.end(grace_s=0.0)


def test_an_answer_that_was_sent_in_time_is_read_however_late(guard: Guard, tmp_path: Path) -> None:
    script = "say('ready'); hear(); say('done'); os.kill(os.getpid(), signal.SIGSTOP)"
    worker = start(script, guard, tmp_path)
    hear(worker)
    worker.send(Finish())
    while psutil.Process(worker.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.001)
    assert hear(worker, 0.0) == Phase("done")  # as after a Ctrl-Z that outlasted the limit
    worker.end(grace_s=0.0)
