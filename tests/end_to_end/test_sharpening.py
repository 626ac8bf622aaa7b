"""`dyno run` issued again measures what is undecided, and says what it bought."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import dyno_cli as cli
import pytest
from held_run import HeldRun

from benchmarks.storage.store import Store

RUN = (
    *cli.FAKE_AXES,
    "framework=fake_steady,fake_unsteady,fake_double",
    "protocol=smoke",
    "protocol.num_cohorts=3",
)


def num_launches(store: Path) -> dict[str, int]:
    """The launches of each framework that ended ok."""
    ok = (one for one in Store(store).records() if one.status == "ok")
    return Counter(one.case.way.framework for one in ok)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, cli.Outcome]:
    """A store after a run in which one comparison is decided and one is not."""
    store = tmp_path_factory.mktemp("sharpening") / "runs"
    return store, cli.dyno("run", *RUN, "--json", store=store)


def test_the_second_run_adds_to_what_is_undecided_alone(
    measured: tuple[Path, cli.Outcome],
) -> None:
    store, first = measured
    assert first.code == 0, first.err
    verdicts = {one["case"].split("/")[3]: one["verdict"] for one in first.json["ratios"]}
    assert verdicts == {"fake_unsteady": "cant_tell", "fake_double": "slower"}
    before = num_launches(store)

    planned = cli.dyno("plan", *RUN, "protocol.max_cohorts=5", "--json", store=store)
    actions = {one["framework"]: one["action"] for one in planned.json["cells"]}
    assert actions == {"fake_steady": "have", "fake_unsteady": "run", "fake_double": "have"}

    again = cli.dyno("run", *RUN, "protocol.max_cohorts=5", "--json", store=store)
    assert again.code == 0, again.err
    added = num_launches(store) - Counter(before)
    assert added == {"fake_steady": 2, "fake_unsteady": 2}
    assert "fake_unsteady eager fp32: 1.00 " in again.err
    assert "with 2 more launches" in again.err
    looks = [one.look for one in Store(store).records()]
    assert (min(looks), max(looks) > 1) == (1, True)

    settled = cli.dyno("run", *RUN, "protocol.max_cohorts=5", "--json", store=store)
    assert settled.code == 0, settled.err
    assert num_launches(store) == Counter(before) + Counter(added)


def test_a_run_without_time_begins_nothing_and_shows_what_there_is(
    measured: tuple[Path, cli.Outcome],
) -> None:
    store, _ = measured
    before = num_launches(store)
    late = cli.dyno(
        *("run", *RUN, "protocol.max_cohorts=7", "--max-time", "0.001s", "--json"), store=store
    )
    assert late.code == 0, late.err
    assert num_launches(store) == before
    assert late.err == "undecided comparisons to measure further\n"


def test_killed_while_it_measures_further_it_loses_nothing(tmp_path: Path) -> None:
    overrides = ("framework=fake_slow,fake_unsteady", "protocol.max_cohorts=4")
    run = HeldRun(tmp_path, RUN, "turn", *overrides, launch=4)
    run.reach()
    run.parent.kill()
    run.parent.wait()
    run_id = Store(run.store).runs()[-1]
    cli.wait_for(lambda: not cli.marked_processes(run_id), "the end of every worker")
    assert num_launches(run.store) == {"fake_slow": 3, "fake_unsteady": 3}
    run.let_go()
    kept = [one for one in RUN if not one.startswith("framework=")]
    done = cli.dyno("run", *kept, *overrides, "--json", store=run.store, extension=run.extension)
    assert done.code == 0, done.err
    assert done.json["run_id"] == run_id
    assert num_launches(run.store) == {"fake_slow": 4, "fake_unsteady": 4}
