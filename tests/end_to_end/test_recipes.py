"""Idiomatic and tuned recipes, by fakes whose clock is their own: what is shown is exact."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.planning.implementations import read_literals
from tests.end_to_end import dyno_cli as cli
from tests.fakes import extension as fakes

FAKE = fakes.OWN / "workloads" / "fake"
STEP_S = read_literals(fakes.OWN / "clockwork.py", ["STEP_S"])["STEP_S"]
TWO = read_literals(FAKE / "fake_two_impl.py", ["TUNED", "TUNED_STEP_S"])
OVERHEAD_S = read_literals(FAKE / "fake_library_impl.py", ["OVERHEAD_S"])["OVERHEAD_S"]
THREE = "framework=fake_steady,fake_two,fake_library"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store with one run of every recipe of three fakes."""
    store = tmp_path_factory.mktemp("recipes") / "store"
    axes = (*cli.FAKE_AXES, THREE, "recipe=all", "protocol=smoke", "protocol.num_cohorts=3")
    done = cli.dyno("run", *axes, store=store)
    assert done.code == 0, done.err
    return store


@pytest.fixture(scope="module")
def document(store: Any) -> Any:
    """The document of that run."""
    return cli.dyno("show", "--json", store=store).json


def named(cell: Any) -> str:
    """`fake_two`, or `fake_two*` if tuned."""
    return str(cell["framework"]) + "*" * (cell["recipe"] == "tuned")


def compared(document: Any, key: str) -> dict[tuple[str, str], Any]:
    """The ratios below this key by the names of case and base."""
    names = {cell["case_id"]: named(cell) for cell in document["cells"]}
    return {(names[one["case"]], names[one["base"]]): one for one in document[key]}


def test_a_tuned_recipe_is_measured_and_one_that_nobody_wrote_is_skipped(document):
    assert {named(cell): cell["status"] for cell in document["cells"]} == {
        **dict.fromkeys(("fake_steady", "fake_two", "fake_library"), "ok"),
        "fake_steady*": "not_implemented",
        **dict.fromkeys(("fake_two*", "fake_library*"), "ok"),
    }
    cells = {named(cell): cell for cell in document["cells"]}
    assert cells["fake_two*"]["rewrites"] == TWO["TUNED"]["fake_train"]
    assert cells["fake_two*"]["parity"] == "pass"
    assert cells["fake_two*"]["case_id"].endswith("/fake_two/eager/fp32/recipe=tuned/cpu")
    assert cells["fake_two"]["case_id"].endswith("/fake_two/eager/fp32/cpu")


def test_only_equal_recipes_are_compared(document):
    found = compared(document, "ratios")
    assert set(found) == {
        ("fake_two", "fake_steady"),
        ("fake_library", "fake_steady"),
        ("fake_library*", "fake_two*"),
    }


def test_the_gain_of_tuning_is_shown(document):
    found = compared(document, "gains")
    tuned_s = TWO["TUNED_STEP_S"]
    assert {names: one["ratio"] for names, one in found.items()} == {
        ("fake_two*", "fake_two"): pytest.approx(STEP_S / tuned_s, rel=1e-3),
        ("fake_library*", "fake_library"): pytest.approx((STEP_S + OVERHEAD_S) / STEP_S, rel=1e-3),
    }
    assert {one["num_launches"] for one in found.values()} == {3}


def test_the_table_marks_tuned_rows_and_tells_what_they_rewrite(store):
    text = " ".join(cli.dyno("show", "--notes", store=store).out.split())
    assert "fake_two eager tuned" in text
    assert (
        f"rewritten in fake_train by fake_two eager fp32 tuned: {TWO['TUNED']['fake_train']}"
        in text
    )
    assert "gain of tuning" in text
    assert "eager idiomatic" not in text


def test_the_same_command_measures_nothing_twice(store):
    axes = (*cli.FAKE_AXES, THREE, "protocol=smoke", "protocol.num_cohorts=3")
    for recipe in ("all", "idiomatic", "tuned"):
        plan = cli.dyno("plan", "--json", *axes, f"recipe={recipe}", store=store).json
        assert plan["counts"]["run"] == 0


def test_a_rewriting_that_changes_the_mathematics_is_found(tmp_path):
    axes = (*cli.FAKE_AXES, "framework=fake_two,fake_mistuned", "recipe=tuned")
    done = cli.dyno("run", "--json", *axes, "protocol=smoke", store=tmp_path / "store")
    assert done.code == 3
    assert {named(cell): cell["status"] for cell in done.json["cells"]} == {
        **dict.fromkeys(("fake_two", "fake_two*", "fake_mistuned"), "ok"),
        "fake_mistuned*": "invalid_work",
    }


def test_a_proof_at_other_sizes_is_that_of_the_cases_own_recipe(tmp_path):
    axes = (*cli.FAKE_MATRIX, "size=large", "execution=eager", "precision=fp32", "device=cpu")
    done = cli.prove(
        *axes, "framework=fake_two,fake_mistuned", "recipe=all", "--json", cache=tmp_path / "cache"
    )
    assert done.code == 3
    assert {named(cell): cell["status"] for cell in done.json["cells"]} == {
        **dict.fromkeys(("fake_two", "fake_two*", "fake_mistuned"), "inherited"),
        "fake_mistuned*": "fail",
    }
    [rewrites] = [one["rewrites"] for one in done.json["cells"] if named(one) == "fake_two*"]
    assert rewrites == TWO["TUNED"]["fake_train"]
