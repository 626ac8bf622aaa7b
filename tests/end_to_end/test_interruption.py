"""Killed, interrupted and issued again: nothing is lost, nothing is left, nothing is repeated."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import dyno_cli as cli
import pytest

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
    store = tmp_path / "runs"
    parent = start(store)
    cli.wait_for(lambda: num_times_in(phase, store) == 2, "the phase in the second cohort")
    parent.kill()
    parent.wait()
    run_id = Store(store).runs()[-1]
    cli.wait_for(lambda: not cli.marked_processes(run_id), "the end of every worker")
    before = Store(store).records()
    assert {record.cohort_id.rsplit("/", 1)[1] for record in before} == {"0"}

    done = cli.dyno("run", *RUN, "--json", store=store)
    assert done.code == 0, done.err
    assert done.json["run_id"] == run_id
    assert {cell["num_launches"] for cell in done.json["cells"]} == {2}
    after = Store(store).records()
    assert [record.launch_id for record in after[: len(before)]] == [r.launch_id for r in before]
    assert len(after) == 4


def test_one_interrupt_ends_after_the_round_and_keeps_it(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    parent = start(store, "protocol.max_rounds=1000", "protocol.min_rounds=1")
    cli.wait_for(lambda: num_times_in("turn", store) == 1, "the first turn")
    parent.send_signal(signal.SIGINT)
    assert parent.wait(cli.LIMIT_S) == 130
    records = Store(store).records()
    assert {record.status for record in records} == {"ok"}
    assert all(1 <= len(record.blocks) < 20 for record in records)


def test_an_interrupt_before_the_first_round_ends_the_preparation(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    parent = start(store)
    cli.wait_for(lambda: num_times_in("build", store) == 1, "the build")
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(cli.LIMIT_S) == 143
    assert {record.status for record in Store(store).records()} == {"interrupted"}


@pytest.mark.skipif(effective_cores() < 2, reason="on one core they import one by one")
def test_nothing_is_prepared_while_another_launch_imports(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    parent = start(store, "framework=fake_steady,fake_slow,fake_hang_import")
    cli.wait_for(lambda: num_times_in("import", store) == 1, "the import")
    time.sleep(2.0)  # it takes 0.4 s, and as long to its build
    assert num_times_in("build", store) == 0
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(cli.LIMIT_S) == 143
    assert {record.status for record in Store(store).records()} == {"interrupted"}


def test_a_second_interrupt_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    slow = "framework=fake_steady,fake_hang_turn"
    parent = start(store, slow)
    cli.wait_for(lambda: "fake_hang_turn" in blocks_begun(store), "the turn that hangs")
    run_id = Store(store).runs()[-1]
    parent.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two signals at once would be merged into one
    parent.send_signal(signal.SIGINT)
    assert parent.wait(cli.LIMIT_S) == 130
    assert cli.marked_processes(run_id) == []


def start(store: Path, *overrides: str) -> subprocess.Popen[bytes]:
    """A run in the background; later overrides replace earlier ones of the same axis."""
    keys = {override.split("=")[0] for override in overrides}
    kept = [argument for argument in RUN if argument.split("=")[0] not in keys]
    return cli.start("run", *kept, *overrides, store=store)


def num_times_in(phase: str, store: Path) -> int:
    """How many launches of the slow fake have reached a phase."""
    return sum(f"in {phase}\n" in log.read_text() for log in store.rglob("*.log"))


def blocks_begun(store: Path) -> str:
    """Names of the fakes that say in their log that they hang."""
    return " ".join(log.read_text() for log in store.rglob("*.log"))
