"""Killed, interrupted and issued again: nothing is lost, nothing is left, nothing is repeated."""

from __future__ import annotations

import signal
from pathlib import Path

import dyno_cli as cli
import pytest
from held_run import HeldRun, is_asleep

from benchmarks.host.machine import effective_cores
from benchmarks.storage.store import Store

PHASES = ("import", "build", "load", "first_step", "turn", "finish")
RUN = (
    *cli.FAKE_AXES,
    "framework=fake_steady,fake_slow",
    "protocol=smoke",
    "protocol.num_cohorts=2",
)


@pytest.mark.parametrize("phase", PHASES)
def test_killed_in_any_phase_it_leaves_no_worker_and_a_store_that_continues(
    phase: str, tmp_path: Path
) -> None:
    run = HeldRun(tmp_path, RUN, phase, launch=2)
    run.reach()
    run.parent.kill()
    run.parent.wait()
    run_id = Store(run.store).runs()[-1]
    cli.wait_for(lambda: not cli.marked_processes(run_id), "the end of every worker")
    before = Store(run.store).records()
    assert {record.cohort_id.rsplit("/", 1)[1] for record in before} == {"0"}

    run.let_go()
    done = cli.dyno("run", *RUN, "--json", store=run.store, extension=run.extension)
    assert done.code == 0, done.err
    assert done.json["run_id"] == run_id
    assert {cell["num_launches"] for cell in done.json["cells"]} == {2}
    after = Store(run.store).records()
    assert [record.launch_id for record in after[: len(before)]] == [r.launch_id for r in before]
    assert len(after) == 4


def test_one_interrupt_ends_after_the_round_and_keeps_it(tmp_path: Path) -> None:
    run = HeldRun(tmp_path, RUN, "turn", "protocol.max_rounds=1000", "protocol.min_rounds=1")
    run.reach()
    run.interrupt()
    run.let_go()
    assert run.parent.wait(cli.LIMIT_S) == 130
    assert run.statuses == {"ok"}
    assert {len(record.blocks) for record in Store(run.store).records()} == {1}


def test_an_interrupt_before_the_first_round_ends_the_preparation(tmp_path: Path) -> None:
    run = HeldRun(tmp_path, RUN, "build")
    run.reach()
    run.parent.send_signal(signal.SIGTERM)
    assert run.parent.wait(cli.LIMIT_S) == 143
    assert run.statuses == {"interrupted"}


@pytest.mark.skipif(effective_cores() < 2, reason="on one core they import one by one")
def test_nothing_is_prepared_while_another_launch_imports(tmp_path: Path) -> None:
    run = HeldRun(tmp_path, RUN, "build", "framework=fake_steady,fake_slow,fake_hang_import")
    cli.wait_for(lambda: run.num_in("import") == 1, "the import")
    run_id = Store(run.store).runs()[-1]
    for pid in (run.parent.pid, *cli.marked_processes(run_id), run.parent.pid):
        cli.wait_for(lambda pid=pid: is_asleep(pid), "everything to wait")
    assert run.num_in("build") == 0
    run.parent.send_signal(signal.SIGTERM)
    assert run.parent.wait(cli.LIMIT_S) == 143
    assert run.statuses == {"interrupted"}


def test_a_second_interrupt_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    run = HeldRun(tmp_path, RUN, "turn")
    run.reach()
    run_id = Store(run.store).runs()[-1]
    run.interrupt()
    run.parent.send_signal(signal.SIGINT)
    assert run.parent.wait(cli.LIMIT_S) == 130
    assert cli.marked_processes(run_id) == []
