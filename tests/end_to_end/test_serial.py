"""What does not fit in memory together is launched one after another, and compared all the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import dyno_cli as cli
import pytest

from benchmarks.contract.record import Record
from benchmarks.storage.store import Store

AXES = (*cli.FAKE_MATRIX, "execution=eager", "precision=fp32", "device=cuda")
RUN = (*AXES, "protocol=smoke", "machine.max_resident=1")
MAX_ATTEMPTS = 3


class Watched(NamedTuple):
    """A run, and which of its launches had a process whenever somebody looked."""

    document: Any
    records: list[Record]
    alive: list[set[str]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Two cases in three serial cohorts; where one fails, as on a busy machine, once more."""
    store = tmp_path_factory.mktemp("serial") / "runs"
    run = (*RUN, "framework=fake_steady,fake_double", "protocol.num_cohorts=3")
    alive: list[set[str]] = []
    for _ in range(MAX_ATTEMPTS):
        parent = cli.start("run", *run, store=store)
        while parent.poll() is None:
            alive.append(cli.launches_alive(last_run(store)))
            time.sleep(0.1)  # looking takes time from them
        if parent.returncode == 0:
            break
    document = cli.dyno("show", "--json", store=store).json
    return Watched(document, Store(store).records(), alive)


def test_never_are_two_launches_alive_at_once(watched: Watched) -> None:
    assert set().union(*watched.alive) == {record.launch_id for record in watched.records}
    assert max(map(len, watched.alive)) == 1


def test_each_cohort_runs_its_two_cases_in_a_balanced_order(watched: Watched) -> None:
    orders: dict[str, str] = {}
    for record in sorted(watched.records, key=lambda record: record.started_at):
        letter = "A" if record.case.way.framework == "fake_steady" else "B"
        orders[record.cohort_id] = orders.get(record.cohort_id, "") + letter
    whole = [order for order in orders.values() if len(order) == 4]
    assert len(whole) >= 3
    assert set(whole) <= {"ABBA", "BAAB"}


def test_records_say_so_and_each_launch_had_the_whole_memory(watched: Watched) -> None:
    assert {record.resident for record in watched.records} == {"serial"}
    assert {r.settings["asked"]["memory_fraction"] for r in watched.records} == {1.0}


def test_the_ratio_says_that_it_is_serial(watched: Watched) -> None:
    assert [ratio["resident"] for ratio in watched.document["ratios"]] == ["serial"]
    assert all(cell["num_launches"] >= 3 for cell in watched.document["cells"])


def test_the_slower_is_found_from_three_cohorts(watched: Watched) -> None:
    if any(cell["num_rounds_invalid"] for cell in watched.document["cells"]):
        pytest.skip("other processes disturbed the rounds: then nothing need be found")
    [ratio] = watched.document["ratios"]
    assert (ratio["verdict"], ratio["num_launches"]) == ("slower", 3)
    assert ratio["ratio"] == pytest.approx(0.5, rel=0.25)


def test_a_cohort_that_was_cut_short_is_measured_anew(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    run = (*RUN, "framework=fake_steady,fake_double")
    parent = cli.start("run", *run, store=store)
    cli.wait_for(lambda: store.exists() and len(Store(store).records()) == 2, "two launches")
    parent.kill()
    parent.wait()
    run_id = Store(store).runs()[-1]
    cli.wait_for(lambda: not cli.marked_processes(run_id), "the end of every worker")
    done = cli.dyno("run", *run, "--json", store=store)
    assert done.code == 0, done.err
    assert [record.cohort_id.rsplit("/", 1)[1] for record in Store(store).records()] == [
        *("0" * 2),
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


def last_run(store: Path) -> str:
    """The run that was started last; one that there is not, before any was."""
    return next(reversed(Store(store).runs()), "none")
