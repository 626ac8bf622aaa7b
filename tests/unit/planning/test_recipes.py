"""Recipes: which are offered, which cases are launched together, and which is whose base."""

import pytest

from benchmarks.contract.case import RECIPE, RECIPES
from benchmarks.documents.plan import document
from benchmarks.errors import UsageError
from tests.unit.planning.worlds import GIB, case_of, spec

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


def launched(plan):
    """For each cohort its cases, a replica marked by a dash."""
    return [
        " ".join(named(case_of(plan, one)) + "'" * one.replica for one in cohort.launches)
        for cohort in plan.cohorts
    ]


def bases(plan):
    """Each case that is not its own base, with its base."""
    names = {one.case.case_id: named(one.case) for one in plan.cells}
    return {names[case]: names[base] for case, base in plan.bases.items() if case != base}


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


def test_a_tuned_recipe_that_rewrites_nothing_on_a_device_is_not_implemented_there(kitchen):
    kitchen.add("alpha", devices=("cpu", "cuda"))
    kitchen.rewrites_on["alpha"] = frozenset({"cpu"})
    plan = kitchen.plan("framework=alpha", "recipe=all", "device=cuda")
    assert cells(plan) == {"alpha": "run", "alpha*": "not_implemented"}
    assert plan.cells[1].reason == (
        "the tuned recipe of toy in alpha rewrites nothing on cuda, only on cpu;"
        " select recipe=idiomatic"
    )
    on_cpu = kitchen.plan("framework=alpha", "recipe=all", "device=cpu")
    assert cells(on_cpu) == {"alpha": "run", "alpha*": "run"}


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


@pytest.mark.parametrize("room", [16, 4, 2, 1])
def test_no_case_has_a_base_of_another_recipe(room, kitchen):
    """Whether they are launched together, in pairs, or one after another."""
    kitchen.rewrites["beta"] = "the loss"
    plan = kitchen.plan("framework=all", "recipe=all", f"machine.memory_limit_gib={room}")
    assert bases(plan) == {"beta": "alpha", "gamma": "alpha", "beta*": "alpha*", "gamma*": "alpha*"}
    for case, base in plan.bases.items():
        assert plan.cell(case).case.way.recipe == plan.cell(base).case.way.recipe


def test_a_tuned_case_alone_has_no_base_but_itself(kitchen):
    plan = kitchen.plan("framework=beta,alpha", "recipe=all")
    assert bases(plan) == {"alpha": "beta"}
    assert launched(plan) == ["beta alpha* alpha"] * 3


def test_tuned_cases_are_launched_beside_their_idiomatic_ones_and_each_once(kitchen):
    plan = kitchen.plan("framework=all", "recipe=all")
    assert launched(plan) == ["alpha alpha* beta gamma gamma*"] * 3


def test_tuned_alone_brings_the_idiomatic_cases_that_its_gain_needs(kitchen):
    plan = kitchen.plan("framework=all", "recipe=tuned")
    found = {"alpha": "run", "alpha*": "run", "beta*": "not_implemented"}
    assert cells(plan) == {**found, "gamma": "run", "gamma*": "run"}
    assert launched(plan) == ["alpha alpha* gamma gamma*"] * 3


def test_a_proof_of_tuned_cases_takes_no_idiomatic_ones(kitchen):
    assert cells(kitchen.plan("framework=alpha", "recipe=tuned", adds_idiomatic=False)) == {
        "alpha*": "run"
    }


def test_both_bases_are_compared_with_themselves(kitchen):
    plan = kitchen.plan("framework=alpha,gamma", "recipe=all", "protocol.aa=true")
    assert launched(plan) == ["alpha alpha' alpha* alpha*' gamma gamma*"] * 3


def test_idiomatic_ones_are_launched_again_beside_a_new_tuned_case(kitchen):
    kitchen.store.run(kitchen.plan("framework=all"))
    plan = kitchen.plan("framework=beta,alpha,gamma", "recipe=all")
    assert launched(plan) == ["alpha* alpha gamma gamma*"] * 3
    assert set(cells(plan).values()) == {"have", "run", "not_implemented"}
    kitchen.store.run(plan)
    again = kitchen.plan("framework=beta,alpha,gamma", "recipe=all")
    assert (launched(again), set(cells(again).values())) == ([], {"have", "not_implemented"})


def test_a_tuned_case_that_was_measured_without_its_idiomatic_one_is_measured_beside_it(kitchen):
    kitchen.store.run(kitchen.plan("framework=alpha,gamma", "recipe=tuned", adds_idiomatic=False))
    assert (
        launched(kitchen.plan("framework=alpha,gamma", "recipe=tuned"))
        == ["alpha alpha* gamma gamma*"] * 3
    )


def test_an_idiomatic_case_that_fails_keeps_no_tuned_one_from_being_had(kitchen):
    plan = kitchen.plan("framework=alpha", "recipe=all")
    kitchen.store.run(plan)
    for index, record in enumerate(kitchen.store.stored):
        if record.case.way.recipe == "idiomatic":
            kitchen.store.mark(index, "crashed")
    assert cells(kitchen.plan("framework=alpha", "recipe=all")) == {
        "alpha": "run",
        "alpha*": "have",
    }


def test_recipes_that_do_not_fit_together_are_measured_apart_and_then_in_pairs(kitchen):
    kitchen.specs["toy"] = spec(way_options={RECIPE: RECIPES}, memory_bytes=lambda case, _: 4 * GIB)
    axes = ("framework=alpha,gamma", "recipe=all", "machine.memory_limit_gib=8")
    plan = kitchen.plan(*axes)
    each = ["alpha gamma", "alpha* gamma*", "alpha alpha*", "gamma gamma*"]
    assert launched(plan) == each * 3
    kitchen.store.run(plan)
    assert launched(kitchen.plan(*axes)) == []


def test_a_tuned_case_that_does_not_fit_beside_its_idiomatic_one_runs_in_series_with_it(kitchen):
    plan = kitchen.plan("framework=alpha", "recipe=all", "machine.max_resident=1")
    assert {one.resident for one in plan.cohorts if len(one.launches) == 4} == {"serial"}
    assert sum(len(one.launches) == 4 for one in plan.cohorts) == 3


def test_a_tuned_library_is_launched_beside_both_of_its_counterparts(kitchen):
    kitchen.add("aleph", base="gamma")
    kitchen.rewrites["aleph"] = "the stem"
    plan = kitchen.plan("framework=alpha,aleph", "recipe=tuned")
    assert launched(plan) == ["alpha alpha* gamma gamma* aleph aleph*"] * 3
    assert bases(plan) == {
        **dict.fromkeys(("gamma", "aleph"), "alpha"),
        **dict.fromkeys(("gamma*", "aleph*"), "alpha*"),
    }
