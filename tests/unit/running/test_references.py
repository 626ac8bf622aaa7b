"""What a case is proven against: an oracle of idiomatic programs, proxies of its own recipe."""

import dataclasses
from types import SimpleNamespace

import pytest

from benchmarks.contract.case import RECIPE, RECIPES, Case, Place, Way, Work
from benchmarks.running.oracles import Oracles
from benchmarks.running.proxies import Proxies
from tests.unit.planning.worlds import World, capabilities, spec


@pytest.fixture
def oracles(tmp_path):
    """The oracles of a world of three holders, each of which has a tuned recipe."""
    world = World(tmp_path)
    world.specs["toy"] = spec(
        way_options={RECIPE: RECIPES}, precisions=("fp32", "fp64"), proxies=("tiny",)
    )
    world.rewrites = dict.fromkeys(world.frameworks, "the loss")
    for name in world.frameworks:
        world.frameworks[name] = capabilities(
            name, precisions={"cpu": ("fp32", "fp64")}, holds_oracle=True
        )
    prover = SimpleNamespace(catalog=world.catalog(), interpreter=world.interpreters.get)
    return Oracles(prover, note=lambda text: None)


def test_no_tuned_program_holds_an_oracle(oracles):
    holders = list(oracles._candidates(Work("toy", 1, "full", 32)))
    assert [case.way.framework for case in holders] == ["alpha", "beta", "gamma"]
    assert {case.way.options for case in holders} == {((RECIPE, "idiomatic"),)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_proxy_has_the_cases_own_recipe(recipe, oracles):
    way = Way("alpha", "eager", "fp32", ((RECIPE, recipe),))
    case = Case(Work("toy", 1, "full", 32), way, Place("cpu"))
    [proxy] = Proxies(oracles.prover, oracles)._proxies(case)
    assert (proxy.way, proxy.work.size) == (way, "tiny")
    assert proxy == dataclasses.replace(case, work=proxy.work)
