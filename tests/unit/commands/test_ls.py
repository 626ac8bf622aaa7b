"""`dyno ls`: what is here, and why not."""

import json

import pytest

from benchmarks import cli
from benchmarks.errors import EXIT_NOTHING
from benchmarks.storage.store import Store
from tests.fakes.extension import extension
from tests.unit.planning.worlds import World


def listed(capsys, *words):
    """The rows of the JSON document."""
    assert cli.main(["ls", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["kind"]) == ("dyno.ls/1", words[0])
    return found["rows"]


def test_workloads_name_their_sizes_and_implementations(capsys):
    rows = {
        row["workload"]: row for row in listed(capsys, "workloads", "--extend", str(extension()))
    }
    assert "pytorch" in rows["resnet50_train"]["frameworks"]
    assert "fake_steady" in rows["fake_train"]["frameworks"]
    assert rows["fake_train"]["sizes"] == ["tiny", "large", "unmakeable"]


def test_suites_have_a_description(capsys):
    rows = {row["suite"]: row for row in listed(capsys, "suites")}
    assert rows["quick"]["num_matrices"] >= 3
    assert all(row["description"] for row in rows.values())


def test_frameworks_say_what_was_seen_or_why_not(capsys, monkeypatch):
    found = {"pytorch": World.installed("torch", "1.0")}
    monkeypatch.setattr(
        "benchmarks.planning.interpreters.resolve",
        lambda catalog, machine, names: {name: found.get(name, "not there") for name in names},
    )
    rows = {row["framework"]: row for row in listed(capsys, "frameworks")}
    assert rows["pytorch"]["installed"]
    assert rows["pytorch"]["versions"] == {"torch": "1.0"}
    others = [row for name, row in rows.items() if name != "pytorch"]
    assert others
    assert all(row["reason"] == "not there" and not row["installed"] for row in others)
    assert cli.main(["ls", "frameworks"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:3] == ["framework", "base", "installed"]
    assert "torch 1.0" in out


def test_a_library_is_listed_with_what_it_computes_with(capsys, monkeypatch):
    monkeypatch.setattr(
        "benchmarks.planning.interpreters.resolve",
        lambda catalog, machine, names: dict.fromkeys(names, "not there"),
    )
    words = ("frameworks", "--extend", str(extension()))
    rows = {row["framework"]: row["base"] for row in listed(capsys, *words)}
    assert (rows["fake_library"], rows["fake_two"]) == ("fake_two", None)
    assert cli.main(["ls", *words]) == 0
    lines = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert (lines["fake_library"], lines["fake_two"]) == ("fake_two", "-")


def test_runs_are_listed_oldest_first(capsys, tmp_path):
    store, plan = Store(tmp_path / "runs"), World(tmp_path).plan("framework=alpha")
    store.create_run(plan)
    [row] = listed(capsys, "runs", "--store", str(store.folder))
    assert (row["run_id"], row["suite"], row["num_cells"]) == (plan.run_id, "quick", 1)
    assert row["num_launches"] == 0


@pytest.mark.parametrize("kind", ["runs", "claims"])
def test_where_there_is_nothing_it_says_so_and_ends_with_5(kind, capsys, tmp_path):
    assert cli.main(["ls", kind, "--store", str(tmp_path), "--json"]) == EXIT_NOTHING
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"] == []
    assert captured.err == f"there are no {kind} stored yet\n"


def test_workloads_name_who_has_a_tuned_recipe_and_what_it_rewrites(capsys):
    rows = {row["workload"]: row for row in listed(capsys, "workloads")}
    assert rows["resnet50_train"]["options"]["recipe"] == ["idiomatic", "tuned"]
    assert set(rows["resnet50_train"]["tuned"]) <= set(rows["resnet50_train"]["frameworks"])
    words = ("workloads", "--extend", str(extension()))
    fake = next(row for row in listed(capsys, *words) if row["workload"] == "fake_train")
    assert fake["tuned"]["fake_two"] == "two sums in one pass"
