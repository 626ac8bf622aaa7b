"""`dyno show` from a store to stdout and an exit code."""

import argparse
import json

import pytest

from benchmarks.commands.show import Output, add_arguments, run, show_plan
from benchmarks.errors import NothingSelectedError
from benchmarks.planning.catalog import discover
from benchmarks.storage.store import Store
from tests.unit.analysis.records import case, cohorts, failed, plan, record

CATALOG = discover()
BASE, FAST = case(), case("pytorch", "compiled")


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def fill(store, records, **changes):
    stored = plan([BASE, FAST], **changes)
    store.create_run(stored)
    for one in records:
        store.append(one)
    return stored


def test_the_document_is_all_of_stdout(store, capsys):
    stored = fill(store, cohorts({BASE: 0.2, FAST: 0.1}))
    assert show_plan(stored, store, CATALOG, output=Output(as_json=True)) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "dyno.run/1"
    assert [c["status"] for c in document["cells"]] == ["ok", "ok"]


def test_the_answer_stands_above_the_table(store, capsys):
    stored = fill(store, cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.004))
    show_plan(stored, store, CATALOG, output=Output())
    out = capsys.readouterr().out
    assert "pytorch compiled is fastest: 2.0" in out.partition("against base  ")[0]


def test_all_notes_are_told_on_request(store, capsys):
    stored = fill(store, cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.004))
    show_plan(stored, store, CATALOG, output=Output())
    assert "degrees of freedom" not in capsys.readouterr().out
    show_plan(stored, store, CATALOG, output=Output(all_notes=True))
    assert "degrees of freedom" in capsys.readouterr().out


def test_a_document_has_no_notes():
    with pytest.raises(SystemExit):
        parsed("--json", "--notes")


def test_a_failed_case_ends_with_three(store, capsys):
    stored = fill(store, [*cohorts({BASE: 0.2, FAST: 0.1}), failed(FAST, 9)])
    assert show_plan(stored, store, CATALOG, output=Output(logs="here")) == 3
    assert "log: here/run1/logs/9.log" in capsys.readouterr().out


def test_records_of_other_runs_count_unless_the_plan_is_fresh(store, capsys):
    fill(store, [record(BASE, c, run_id="run0") for c in range(3)], run_id="run0")
    stored = fill(store, [record(FAST, 0)])
    assert show_plan(stored, store, CATALOG, output=Output(as_json=True)) == 0
    fresh = plan([BASE, FAST], fresh=True)
    capsys.readouterr()
    assert show_plan(fresh, store, CATALOG, output=Output(as_json=True)) == 0
    statuses = [c["status"] for c in json.loads(capsys.readouterr().out)["cells"]]
    assert statuses == ["interrupted", "ok"]


def test_the_last_run_is_the_default(store, capsys):
    fill(store, [record(BASE, 0, run_id="run0"), record(FAST, 0, run_id="run0")], run_id="run0")
    fill(store, [])
    assert run(parsed("--json", "--store", str(store.folder))) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == "run1"
    run(parsed("run0", "--json", "--store", str(store.folder)))
    assert json.loads(capsys.readouterr().out)["run_id"] == "run0"


def test_an_empty_store_has_nothing_to_show(store):
    with pytest.raises(NothingSelectedError, match="there is no run"):
        run(parsed("--store", str(store.folder)))


def test_an_unknown_run_is_nothing_to_show(store):
    fill(store, [])
    with pytest.raises(NothingSelectedError, match="there is no run nowhere"):
        run(parsed("nowhere", "--store", str(store.folder)))
