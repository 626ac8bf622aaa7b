"""Case names are readable, stable and unique."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks.contract.case import Case, Place, Way, Work, case_from_json

PLAIN = Case(Work("resnet50_train", 1, "small", 8), Way("jax", "compiled", "fp32"), Place("cpu"))
RICH = Case(
    Work("transformer_finetune", 1, "7b", 4, (("sequence_length", 2048),), seed=7),
    Way("pytorch", "compiled", "bf16", (("recompute", "full"),)),
    Place("cuda", 4),
)


TUNED_WAY = Way("jax", "compiled", "bf16", (("recompute", "full"), ("recipe", "tuned")))
TUNED = replace(RICH, way=TUNED_WAY)
OF_TWO = replace(PLAIN, work=replace(PLAIN.work, num_replicas=2), place=Place("cpu", 2))


def test_names_are_stable() -> None:
    assert PLAIN.case_id == "resnet50_train/small/b8/jax/compiled/fp32/cpu"
    assert PLAIN.group_id == "resnet50_train/small/b8/cpu"
    assert RICH.case_id == (
        "transformer_finetune/7b/b4/sequence_length=2048/seed7"
        "/pytorch/compiled/bf16/recompute=full/cudax4"
    )


def test_json_gives_the_case_back() -> None:
    for case in (PLAIN, RICH, OF_TWO):
        assert case_from_json(json.loads(json.dumps(case.to_json()))) == case


def test_replicas_are_named_where_the_work_depends_on_them() -> None:
    assert OF_TWO.case_id == "resnet50_train/small/b8/replicas2/jax/compiled/fp32/cpux2"
    assert OF_TWO.to_json()["work"]["num_replicas"] == 2
    assert "num_replicas" not in PLAIN.to_json()["work"]  # the identity of results as ever


def test_options_are_axes() -> None:
    assert RICH.axes()["sequence_length"] == 2048
    assert RICH.axes()["recompute"] == "full"


def test_the_usual_recipe_is_not_named() -> None:
    assert TUNED.case_id.endswith("/jax/compiled/bf16/recompute=full/recipe=tuned/cudax4")
    usual = replace(PLAIN, way=replace(PLAIN.way, options=(("recipe", "idiomatic"),)))
    assert usual.case_id == PLAIN.case_id
    assert usual.axes()["recipe"] == "idiomatic"
    assert case_from_json(json.loads(json.dumps(usual.to_json()))) == usual


def test_a_tuned_case_has_an_idiomatic_one_that_differs_in_the_recipe_alone() -> None:
    idiomatic = TUNED.idiomatic
    assert idiomatic is not None
    assert idiomatic.way.options == (("recompute", "full"), ("recipe", "idiomatic"))
    assert replace(idiomatic, way=TUNED.way) == TUNED
    assert (idiomatic.idiomatic, PLAIN.idiomatic, PLAIN.counterparts) == (None, None, ())


def test_a_tuned_library_has_two_counterparts_each_of_one_change() -> None:
    library = replace(TUNED, way=replace(TUNED.way, framework="equinox", base="jax"))
    on_base, idiomatic = library.counterparts
    assert on_base == TUNED
    assert (idiomatic.way.framework, idiomatic.way.recipe) == ("equinox", "idiomatic")
