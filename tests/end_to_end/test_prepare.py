"""`dyno prepare`: what a run does once is done ahead, and the run goes on from there."""

from __future__ import annotations

from pathlib import Path

import dyno_cli as cli
import pytest

from benchmarks.storage.store import Store

AXES = [one for one in cli.FAKE_AXES if not one.startswith("execution=")]
CASES = (*AXES, "framework=fake_steady,fake_caching", "execution=all", "protocol=smoke")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepare") / "runs"


@pytest.fixture(scope="module")
def prepared(store: Path) -> cli.Outcome:
    return cli.dyno("prepare", *CASES, store=store)


def test_only_what_compiles_is_launched_and_nothing_is_timed(
    prepared: cli.Outcome, store: Path
) -> None:
    assert prepared.code == 0, prepared.err
    assert "computing the float64 oracle" in prepared.err
    assert "3 cases prepared; next: dyno run --store" in prepared.out
    [record] = Store(store).records()
    assert record.case.way.execution == "compiled"
    assert (record.status, record.cold_cache, record.blocks) == ("ok", True, ())
    assert record.only_prepared


def test_the_second_time_there_is_nothing_left_to_do(prepared: cli.Outcome, store: Path) -> None:
    again = cli.dyno("prepare", *CASES, store=store)
    assert (again.code, len(Store(store).records())) == (0, 1)
    assert "computing" not in again.err


def test_the_run_goes_on_from_there(prepared: cli.Outcome, store: Path) -> None:
    done = cli.dyno("run", *CASES, "--json", store=store)
    assert done.code == 0, done.err
    assert "computing" not in done.err
    assert len(Store(store).runs()) == 1
    [cold, *timed] = [r for r in Store(store).records() if r.case.way.execution == "compiled"]
    assert [(one.cold_cache, bool(one.blocks)) for one in timed] == [(False, True)]
    cells = [cell for cell in done.json["cells"] if cell["framework"] == "fake_caching"]
    [cell] = [cell for cell in cells if cell["execution"] == "compiled"]
    assert (cell["status"], cell["num_launches"]) == ("ok", 1)
    assert cell["first_step_cold_s"] == pytest.approx(cold.first_steps_ns[0] / 1e9)
    nothing = cli.dyno("prepare", *CASES, store=store)
    assert (nothing.code, nothing.out) == (0, "nothing to prepare: every cell has its results\n")


def test_what_fails_is_said_and_the_others_are_prepared(tmp_path: Path) -> None:
    cases = (*AXES, "framework=fake_caching,fake_misplaced", "execution=compiled", "protocol=smoke")
    done = cli.dyno("prepare", *cases, store=tmp_path / "runs")
    assert done.code == 3, done.err
    assert "not_placed: asked to run on cpu, ran on cuda" in done.err
    assert done.out.startswith("1 case prepared; ")


def test_cases_that_cannot_run_are_refused(tmp_path: Path) -> None:
    done = cli.dyno(
        "prepare", *AXES, "framework=fake_steady", "execution=compiled", store=tmp_path / "runs"
    )
    assert done.code == 5, done.err
    assert "cells can run" in done.err
