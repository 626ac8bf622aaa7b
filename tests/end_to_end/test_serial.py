"""What does not fit in memory together is launched one after another, and compared all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import dyno_cli as cli
import pytest
from held_run import HeldRun

from benchmarks.contract.record import Record
from benchmarks.storage.store import Store
from tests.fakes import extension as fakes

AXES = (*cli.FAKE_MATRIX, "execution=eager", "precision=fp32", "device=cuda")
RUN = (*AXES, "protocol=smoke", "machine.max_resident=1")


class Serial(NamedTuple):
    """A run, and of each of its processes whether it was alone."""

    document: Any
    records: list[Record]
    company: list[str]


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Serial:
    """Two cases in three serial cohorts."""
    folder = tmp_path_factory.mktemp("serial")
    extension = fakes.write(folder)
    company = extension / "company"
    company.mkdir()
    run = (*RUN, "framework=fake_steady,fake_double", "protocol.num_cohorts=3", "--json")
    done = cli.dyno("run", *run, store=folder / "runs", extension=extension)
    assert done.code == 0, done.err
    said = [file.read_text() for file in company.glob("process-*")]
    return Serial(done.json, Store(folder / "runs").records(), said)


def test_never_are_two_launches_alive_at_once(serial: Serial) -> None:
    assert len(serial.company) >= len(serial.records) == 12
    assert set(serial.company) == {"alone"}


def test_each_cohort_runs_its_two_cases_in_a_balanced_order(serial: Serial) -> None:
    orders: dict[str, str] = {}
    for record in sorted(serial.records, key=lambda record: record.started_at):
        letter = "A" if record.case.way.framework == "fake_steady" else "B"
        orders[record.cohort_id] = orders.get(record.cohort_id, "") + letter
    assert len(orders) == 3
    assert set(orders.values()) <= {"ABBA", "BAAB"}


def test_records_say_so_and_each_launch_had_the_whole_memory(serial: Serial) -> None:
    assert {record.resident for record in serial.records} == {"serial"}
    assert {r.settings["asked"]["memory_fraction"] for r in serial.records} == {1.0}


def test_the_ratio_says_that_it_is_serial(serial: Serial) -> None:
    assert [ratio["resident"] for ratio in serial.document["ratios"]] == ["serial"]
    assert all(cell["num_launches"] >= 3 for cell in serial.document["cells"])


def test_the_slower_is_found_from_its_cohorts(serial: Serial) -> None:
    [ratio] = serial.document["ratios"]
    assert ratio["num_launches"] == 3
    assert ratio["ratio"] == pytest.approx(0.5, rel=1e-3)
    assert ratio["verdict"] == "slower"


def test_a_cohort_that_was_cut_short_is_measured_anew(tmp_path: Path) -> None:
    run = HeldRun(tmp_path, RUN, "turn", "framework=fake_slow,fake_double", launch=2)
    run.reach()
    run.parent.kill()
    run.parent.wait()
    store = Store(run.store)
    run_id = store.runs()[-1]
    cli.wait_for(lambda: not cli.marked_processes(run_id), "the end of every worker")
    num_before = len(store.records())  # in the order ABBA the second of fake_slow's is the last
    assert 0 < num_before < 4

    run.let_go()
    axes = (*RUN, "framework=fake_slow,fake_double", "--json")
    done = cli.dyno("run", *axes, store=run.store, extension=run.extension)
    assert done.code == 0, done.err
    assert [record.cohort_id.rsplit("/", 1)[1] for record in store.records()] == [
        *("0" * num_before),
        *("1" * 4),
    ]
    assert [one["num_launches"] for one in done.json["ratios"]] == [1]


def test_where_a_launch_fails_the_base_is_launched_once(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    run = (*RUN, "framework=fake_steady,fake_oom_device", "--json")
    done = cli.dyno("run", *run, store=store)
    assert done.code == 3, done.err
    statuses = sorted((r.case.way.framework, r.status) for r in Store(store).records())
    assert statuses == [("fake_oom_device", "oom_device"), ("fake_steady", "ok")]
    assert done.json["ratios"] == []
