"""`dyno plan` on fakes that are always installed."""

import json

import pytest

from benchmarks import cli
from benchmarks.documents.plan import Counts, document
from benchmarks.errors import EXIT_ENVIRONMENT, EXIT_NOTHING, EXIT_USAGE
from benchmarks.presentation.plan import describe
from tests.fakes.extension import extension
from tests.unit.planning.worlds import World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def run(store, *words):
    return cli.main(["plan", "--extend", str(extension()), "--store", str(store), *words])


TOY = ("workload=fake_train", "size=tiny", "batch_size=2", "execution=eager", "precision=fp32")


def test_the_document_has_every_cell_and_the_counts(tmp_path, capsys):
    axes = (*TOY, "framework=fake_steady,fake_double,pytorch", "device=cpu")
    assert run(tmp_path, *axes, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "dyno.plan/1"
    assert found["counts"] == {"run": 2, "have": 0, "skip": 1}
    by_name = {cell["framework"]: cell for cell in found["cells"]}
    assert by_name["fake_steady"]["action"] == "run"
    assert by_name["fake_steady"]["estimate_s"] > 0
    assert by_name["pytorch"]["kind"] == "not_implemented"
    assert by_name["pytorch"]["estimate_s"] is None
    assert (found["num_groups"], found["num_cohorts"]) == (1, 3)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_run_it_ends_with_5(tmp_path, capsys):
    axes = (*TOY, "framework=fake_steady", "device=tpu")
    assert run(tmp_path, *axes) == EXIT_NOTHING
    captured = capsys.readouterr()
    assert "does not run on tpu" in captured.out
    assert "Nothing is left to run" in captured.out


def test_a_mistake_ends_with_2_and_leaves_stdout_empty(tmp_path, capsys):
    assert run(tmp_path, "framework=pytorhc", "--json") == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        "framework=pytorhc: unknown framework 'pytorhc'\nhint: did you mean pytorch? known: "
    )


def test_what_was_named_and_is_not_there_ends_with_6(tmp_path, capsys, monkeypatch, world):
    world.interpreters["beta"] = "beta is not installed"
    plan = world.plan("framework=alpha,beta")
    chosen = type("Chosen", (), {"plan": plan})
    monkeypatch.setattr("benchmarks.commands.selection.load", lambda args: chosen)
    assert cli.main(["plan"]) == EXIT_ENVIRONMENT
    assert "not ready: beta: beta is not installed" in capsys.readouterr().err
    assert cli.main(["plan", "--json"]) == EXIT_ENVIRONMENT
    assert json.loads(capsys.readouterr().out)["counts"] == {"run": 1, "have": 0, "skip": 1}


@pytest.mark.parametrize(
    ("devices", "code"), [("device=cuda", EXIT_ENVIRONMENT), ("device=all", 0)]
)
def test_a_device_that_is_not_here_ends_with_6_only_if_it_was_named(
    devices, code, capsys, monkeypatch, world
):
    chosen = type("Chosen", (), {"plan": world.plan("framework=alpha", devices)})
    options = "benchmarks.commands.selection.options_of"
    monkeypatch.setattr("benchmarks.commands.selection.load", lambda args: chosen)
    monkeypatch.setattr(options, lambda args: [])
    assert cli.main(["plan"]) == code
    captured = capsys.readouterr()
    assert "no device: no cuda device seen by alpha here; the case needs up to" in captured.out
    assert (captured.err == "not ready: no cuda device seen by alpha here\n") == bool(code)


def test_what_is_had_names_its_run(world):
    world.store.run(world.plan("framework=alpha,beta"))
    plan = world.plan("framework=alpha,beta")
    assert document(plan).counts == Counts(run=0, have=2, skip=0)
    assert document(plan).estimate_s is None
    assert f"3 cohorts in {plan.run_id}" in describe(plan)
