"""Recipes: which are offered, which cases are launched together, and which is whose base."""

import pytest

from benchmarks.contract.case import RECIPE, RECIPES
from benchmarks.documents.plan import document
from benchmarks.errors import UsageError
from tests.unit.planning.worlds import spec

REWRITES = {"alpha": "the stem", "gamma": "every convolution as a matmul"}


@pytest.fixture
def kitchen(world):
    """The world with recipes; beta has no tuned one."""
    world.specs["toy"] = spec(way_options={RECIPE: RECIPES})
    world.rewrites = dict(REWRITES)
    return world


def named(case):
    """`alpha`, or `alpha*` if tuned."""
    return case.way.framework + "*" * (case.way.recipe == "tuned")


def cells(plan):
    """The action of each cell, or the kind of its skip."""
    return {
        named(one.case): str(one.kind) if one.action == "skip" else one.action for one in plan.cells
    }


def test_idiomatic_is_the_default(kitchen):
    assert cells(kitchen.plan("framework=all")) == dict.fromkeys(("alpha", "beta", "gamma"), "run")


def test_a_tuned_recipe_that_nobody_wrote_is_not_implemented_and_says_what_to_do(kitchen):
    plan = kitchen.plan("framework=alpha,beta", "recipe=all")
    found = {"alpha": "run", "alpha*": "run", "beta": "run", "beta*": "not_implemented"}
    assert cells(plan) == found
    assert plan.cells[3].reason == (
        "beta has no tuned recipe of toy; select recipe=idiomatic, or declare the rewriting as"
        " TUNED in lab.workloads.toy.beta_impl"
    )


def test_a_tuned_cell_says_what_it_rewrites(kitchen):
    plan = kitchen.plan("framework=alpha", "recipe=all")
    assert [one.rewrites for one in plan.cells] == [None, "the stem"]
    assert [one.rewrites for one in document(plan).cells] == [None, "the stem"]
    assert [one.options for one in document(plan).cells] == [{RECIPE: one} for one in RECIPES]


def test_a_misspelt_recipe_is_refused(kitchen):
    with pytest.raises(UsageError, match="unknown recipe 'tunned'"):
        kitchen.plan("framework=alpha", "recipe=tunned")


def test_a_workload_without_recipes_refuses_the_axis(world):
    with pytest.raises(UsageError, match="unknown key 'recipe'"):
        world.plan("framework=alpha", "recipe=tuned")


def test_recipes_have_results_of_their_own(kitchen):
    idiomatic, tuned = kitchen.plan("framework=alpha", "recipe=all").cells
    assert idiomatic.result_key != tuned.result_key
    assert idiomatic.case == tuned.case.idiomatic
