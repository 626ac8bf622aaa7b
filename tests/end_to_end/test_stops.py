"""Processes that somebody else stops: no harm is done, and a stopped worker's round is named."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dyno_cli as cli
import psutil
import pytest
from held_run import HeldRun

from benchmarks.contract.record import Record
from benchmarks.storage.store import Store

RUN = (*cli.FAKE_AXES, "framework=fake_slow", "protocol=smoke")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[str], HeldRun]]:
    """Starts a run that is held in a phase, and returns when it is; it ends with the test."""
    with ExitStack() as stack:

        def start(phase: str) -> HeldRun:
            run = HeldRun(tmp_path, RUN, phase)
            stack.callback(run.parent.wait, cli.LIMIT_S)
            stack.callback(run.parent.kill)  # also if it is stopped; its watchdog ends the worker
            run.reach()
            return run

        yield start


def stop(pid: int) -> None:
    """Stop a process, and return when it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    cli.wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "the stop")


def is_at_rest(pid: int) -> bool:
    """Whether the process waits, and was not woken for longer than a held fake sleeps."""
    process = psutil.Process(pid)
    before = process.num_ctx_switches()
    time.sleep(0.1)
    asleep = process.status() == psutil.STATUS_SLEEPING
    return asleep and process.num_ctx_switches() == before


def worker_of(run: HeldRun) -> int:
    """The process of the one launch that is alive."""
    children = psutil.Process(run.parent.pid).children()
    [worker] = [one.pid for one in children if "benchmarks.worker.main" in one.cmdline()]
    return worker


def record_of(run: HeldRun) -> Record:
    """The one record, once the run has ended without an error."""
    assert run.parent.wait(cli.LIMIT_S) == 0
    [record] = Store(run.store).records()
    return record


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not tell a parent")
def test_a_turn_in_which_somebody_else_stopped_the_worker_is_taken_again(
    held: Callable[[str], HeldRun],
) -> None:
    run = held("turn")
    stop(worker_of(run))
    os.kill(worker_of(run), signal.SIGCONT)
    run.let_go()
    record = record_of(run)
    first, *others = record.blocks
    assert first.flags == ("STOPPED",)
    assert others
    assert {block.flags for block in others} == {()}
    assert others[0].round == first.round
    assert record.turns == others


@pytest.mark.parametrize("phase", ["build", "load", "first_step"])
def test_a_worker_stopped_while_it_prepares_is_measured_all_the_same(
    phase: str, held: Callable[[str], HeldRun]
) -> None:
    run = held(phase)
    stop(worker_of(run))
    os.kill(worker_of(run), signal.SIGCONT)
    run.let_go()
    record = record_of(run)
    assert record.status == "ok"
    assert {block.flags for block in record.blocks} == {()}


def test_dyno_itself_stopped_during_a_turn_does_no_harm(
    held: Callable[[str], HeldRun],
) -> None:
    run = held("turn")
    worker = worker_of(run)
    stop(run.parent.pid)
    run.let_go()  # the worker's turn ends meanwhile
    cli.wait_for(lambda: is_at_rest(worker), "the end of the block")
    os.kill(run.parent.pid, signal.SIGCONT)
    record = record_of(run)
    assert record.status == "ok"
    assert {block.flags for block in record.blocks} == {()}
