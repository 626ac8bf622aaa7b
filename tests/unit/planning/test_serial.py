"""Cases that do not fit beside their base: cohorts whose launches run one after another."""

import pytest

from tests.unit.planning.worlds import GIB, actions, launched, spec

TWO = "framework=alpha,beta"
THREE = "framework=alpha,beta,gamma"
ONE = "machine.max_resident=1"
LARGE = "machine.memory_limit_gib=10"
ORDERS = ("alpha beta beta alpha", "beta alpha alpha beta")


@pytest.fixture
def large(world):
    """A world in which beta fits by itself and not beside the base, alpha."""
    sizes = {"alpha": 6, "beta": 8, "gamma": 2}
    world.specs["toy"] = spec(
        memory_bytes=lambda case, capabilities: sizes[case.way.framework] * GIB
    )
    return world


def cohorts(plan):
    """How each cohort is resident, and the frameworks in it."""
    return [
        (cohort.resident, "".join(sorted(set(names.split()))))
        for cohort, names in zip(plan.cohorts, launched(plan), strict=True)
    ]


def test_what_does_not_fit_beside_its_base_runs_one_after_another_with_it(large):
    plan = large.plan(THREE, LARGE, "protocol.num_cohorts=1")
    together, serial = plan.cohorts
    assert (together.resident, serial.resident) == ("together", "serial")
    assert launched(plan)[0] == "alpha gamma"
    assert launched(plan)[1] in ORDERS
    assert plan.bases["toy/tiny/b2/beta/eager/fp32/cpu"] == "toy/tiny/b2/alpha/eager/fp32/cpu"
    reasons = {cell.case.way.framework: cell.reason for cell in plan.cells}
    assert reasons == {
        "alpha": None,
        "beta": "needs 8.0 GiB, its base 6.0 GiB, which do not fit together within 10.0 GiB:"
        " launched one after another with its base (A B B A)",
        "gamma": None,
    }


def test_which_of_the_two_comes_first_is_random_and_the_same_again(world):
    overrides = (TWO, ONE, "protocol.num_cohorts=20")
    orders = launched(world.plan(*overrides))
    assert set(orders) == set(ORDERS)
    assert launched(world.plan(*overrides)) == orders
    assert launched(world.plan(*overrides, "protocol.seed=1")) != orders


def test_with_one_resident_every_case_runs_so_and_the_base_needs_no_cohort_of_its_own(world):
    plan = world.plan(THREE, ONE)
    assert plan.cells[1].reason.startswith("machine.max_resident=1: launched one after another")
    assert cohorts(plan) == [("serial", "alphabeta"), ("serial", "alphagamma")] * 3


def test_the_estimate_counts_every_launch(world):
    world.store.run(world.plan(THREE, ONE))
    plan = world.plan(THREE, ONE, "protocol.num_cohorts=4")
    seconds = {cell.case.way.framework: cell.estimate_s for cell in plan.cells}
    assert seconds == pytest.approx({"alpha": 4 * 5.0, "beta": 2 * 5.0, "gamma": 2 * 5.0})


def test_a_case_without_others_runs_as_always(world):
    assert launched(world.plan("framework=alpha", ONE)) == ["alpha"] * 3


# What is there already


def test_a_complete_run_is_had(world):
    world.store.run(world.plan(TWO, ONE))
    plan = world.plan(TWO, ONE)
    assert plan.cohorts == ()
    assert {cell.reason for cell in plan.cells} == {f"3 cohorts in {plan.run_id}"}


@pytest.mark.parametrize("place", range(4))
def test_a_cohort_counts_once_all_four_of_its_launches_are_ok(place, world):
    first = world.plan(TWO, ONE)
    world.store.run(first)
    world.store.mark(4 + place, "interrupted")
    plan = world.plan(TWO, ONE)
    assert [cohort.cohort_id for cohort in plan.cohorts] == [f"{first.run_id}/0/3"]
    assert cohorts(plan) == [("serial", "alphabeta")]


def test_cohorts_that_were_alive_together_count_too(world):
    world.store.run(world.plan(TWO, "protocol.num_cohorts=2"))
    assert cohorts(world.plan(TWO, ONE)) == [("serial", "alphabeta")]


def test_a_case_added_later_runs_with_the_base(world):
    world.store.run(world.plan(TWO, ONE))
    plan = world.plan(THREE, ONE)
    assert cohorts(plan) == [("serial", "alphagamma")] * 3
    assert actions(plan) == {"alpha": "have", "beta": "have", "gamma": "run"}


def test_a_failed_case_is_retried_with_its_base(world):
    world.store.run(world.plan(THREE, ONE), failing=("beta",))
    assert cohorts(world.plan(THREE, ONE)) == [("serial", "alphabeta")] * 3


def test_a_base_whose_other_case_failed_has_its_cohorts(world):
    world.store.run(world.plan(TWO, ONE), failing=("beta",))
    failed = next(one for one in world.store.stored if one.status != "ok")
    alone = {one.cohort_id: one for one in world.store.stored if one.status == "ok"}
    world.store.stored = [failed, *alone.values()]  # as a run that gives up on beta leaves them
    assert actions(world.plan("framework=alpha", ONE)) == {"alpha": "have"}


def test_a_base_that_fails_is_retried_alone(world):
    world.store.run(world.plan(TWO, ONE), failing=("alpha",))
    assert cohorts(world.plan(TWO, ONE)) == [("together", "alpha")] * 3


# The base against itself


def test_a_base_that_does_not_fit_beside_itself_is_checked_one_after_another(world):
    plan = world.plan(TWO, ONE, "protocol.aa=true")
    assert cohorts(plan) == [("serial", "alphaalpha'"), ("serial", "alphabeta")] * 3
    assert set(launched(plan)[::2]) <= {"alpha alpha' alpha' alpha", "alpha' alpha alpha alpha'"}
    world.store.run(plan)
    assert world.plan(TWO, ONE, "protocol.aa=true").cohorts == ()


def test_a_check_that_lacks_a_launch_is_repeated(world):
    world.store.run(world.plan("framework=alpha", ONE, "protocol.aa=true"))
    world.store.mark(5, "interrupted")
    plan = world.plan("framework=alpha", ONE, "protocol.aa=true")
    assert cohorts(plan) == [("serial", "alphaalpha'")]


def test_the_check_takes_no_case_from_the_side_of_its_base(world):
    plan = world.plan(THREE, "machine.max_resident=2", "protocol.aa=true")
    assert launched(plan) == ["alpha alpha'", "alpha beta", "alpha gamma"] * 3
    assert {cohort.resident for cohort in plan.cohorts} == {"together"}
