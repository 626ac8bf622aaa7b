"""Libraries: selected with what they compute with, and launched beside it."""

import pytest

from benchmarks.documents.plan import document
from benchmarks.errors import UsageError
from benchmarks.planning.libraries import with_bases
from tests.unit.planning.worlds import GIB, actions, launched, spec

BASES = {"equinox": "jax", "haiku": "jax", "lightning": "pytorch"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["jax"], ["jax"]),
        (["equinox"], ["jax", "equinox"]),
        (["pytorch", "equinox", "haiku"], ["pytorch", "jax", "equinox", "haiku"]),
        (["equinox", "jax"], ["equinox", "jax"]),  # as it was asked for
        (["jax", "libraries"], ["jax", "equinox", "haiku"]),
        (["libraries"], ["jax", "equinox", "haiku", "pytorch", "lightning"]),
        (["libraries", "pytorch"], ["pytorch", "lightning"]),
        (["jax", "equinox", "libraries"], ["jax", "equinox", "haiku"]),
    ],
)
def test_a_library_is_selected_by_its_name_or_with_its_base(names, expected):
    assert list(with_bases(names, BASES)) == expected


@pytest.mark.parametrize("names", [["mlx", "libraries"], ["libraries"]])
def test_libraries_where_there_are_none_is_refused(names):
    with pytest.raises(UsageError, match=r"framework=x: there are no libraries"):
        with_bases(names, {} if len(names) == 1 else BASES, where="framework=x")


@pytest.fixture
def lib(world):
    """The world with a library on beta, whose name comes first in the alphabet."""
    world.frameworks = dict(reversed(world.frameworks.items()))
    world.add("aleph", base="beta")
    return world


def test_all_has_libraries_after_the_others_so_that_none_is_a_base(lib):
    plan = lib.plan("framework=all")
    assert [cell.case.way.framework for cell in plan.cells] == ["gamma", "beta", "alpha", "aleph"]
    assert {case.rsplit("/")[3] for case in plan.bases.values()} == {"gamma"}


def test_a_base_alone_brings_no_library(lib):
    assert set(actions(lib.plan("framework=beta"))) == {"beta"}


def test_a_case_of_a_library_knows_what_it_computes_with_and_is_named_without_it(lib):
    beta, aleph = (cell.case for cell in lib.plan("framework=aleph").cells)
    assert aleph.way.base == "beta"
    assert aleph.on_base == beta
    assert aleph.case_id == "toy/tiny/b2/aleph/eager/fp32/cpu"
    assert beta.on_base is None


def test_both_are_launched_in_the_same_cohorts(lib):
    assert launched(lib.plan("framework=alpha,aleph")) == ["alpha beta aleph"] * 3


def test_what_a_library_computes_with_is_launched_again_beside_a_new_library(lib):
    lib.store.run(lib.plan("framework=alpha,beta"))
    plan = lib.plan("framework=alpha,beta,aleph")
    assert launched(plan) == ["alpha beta aleph"] * 3
    assert actions(plan) == {"alpha": "have", "beta": "have", "aleph": "run"}


def test_a_library_measured_without_its_base_is_measured_beside_it(lib):
    lib.interpreters["beta"] = "beta is not installed"
    lib.store.run(lib.plan("framework=alpha,aleph"))
    lib.add("beta")
    plan = lib.plan("framework=alpha,aleph")
    assert launched(plan) == ["alpha beta aleph"] * 3


def test_a_base_that_fails_keeps_no_library_from_being_had(lib):
    lib.store.run(lib.plan("framework=alpha,aleph"), failing=("beta",))
    plan = lib.plan("framework=alpha,aleph")
    assert actions(plan) == {"alpha": "have", "beta": "run", "aleph": "have"}


def test_those_that_no_part_holds_together_get_one_of_their_own(lib):
    lib.specs["toy"] = spec(memory_bytes=lambda case, _: 4 * GIB)
    plan = lib.plan("framework=alpha,aleph", "machine.memory_limit_gib=8")
    assert launched(plan) == ["alpha beta", "alpha aleph", "beta aleph"] * 3
    assert {case.rsplit("/")[3] for case in plan.bases.values()} == {"alpha"}
    lib.store.run(plan)
    again = lib.plan("framework=alpha,aleph", "machine.memory_limit_gib=8")
    assert launched(again) == []
    assert set(actions(again).values()) == {"have"}


def test_those_that_do_not_fit_together_are_launched_one_after_another(lib):
    sizes = {"alpha": 1, "beta": 6, "aleph": 6}
    lib.specs["toy"] = spec(memory_bytes=lambda case, _: sizes[case.way.framework] * GIB)
    plan = lib.plan("framework=alpha,aleph", "machine.memory_limit_gib=8")
    pairs = [one for one in plan.cohorts if one.resident == "serial"]
    assert len(pairs) == 3
    assert {x.case_id.rsplit("/")[3] for one in pairs for x in one.launches} == {"beta", "aleph"}


def test_what_differs_in_its_mathematics_is_no_base(lib):
    lib.differs["alpha"] = "its loss is another one"
    plan = lib.plan("framework=alpha,beta,gamma")
    assert {case.rsplit("/")[3] for case in plan.bases.values()} == {"beta"}
    assert [cell.differs for cell in plan.cells] == ["its loss is another one", None, None]
    assert [cell.differs for cell in document(plan).cells] == [cell.differs for cell in plan.cells]
