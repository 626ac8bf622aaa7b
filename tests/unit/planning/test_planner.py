"""From overrides to a plan: decisions about cells, cohorts, and what the store holds already."""

import dataclasses
import json

import pytest

from benchmarks.contract.framework import Unsupported
from benchmarks.contract.plan import Interpreter, plan_from_json
from benchmarks.contract.task import Inference
from benchmarks.errors import UsageError
from benchmarks.planning.planner import best_device
from tests.unit.planning.worlds import GIB, actions, launched, spec

TWO = "framework=alpha,beta"
THREE = "framework=alpha,beta,gamma"
CUDA = {"cpu": 1, "cuda": 2}


def reasons(plan):
    return {cell.case.way.framework: cell.reason for cell in plan.cells}


def test_a_new_plan_launches_each_case_once_in_each_cohort(world):
    plan = world.plan(THREE)
    assert launched(plan) == ["alpha beta gamma"] * 3
    assert [cohort.cohort_id.rsplit("/", 2)[1:] for cohort in plan.cohorts] == [
        ["0", "0"],
        ["0", "1"],
        ["0", "2"],
    ]
    assert set(plan.bases.values()) == {"toy/tiny/b2/alpha/eager/fp32/cpu"}
    assert plan.run_id == "20261121-080000-quick-0a1b2c"


def test_a_plan_survives_its_storage(world):
    plan = world.plan(THREE, "batch_size=1,2")
    assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_the_base_is_the_first_cell_that_can_run(world):
    world.interpreters["alpha"] = "alpha is not installed"
    plan = world.plan(THREE)
    assert plan.bases == {
        f"toy/tiny/b2/{name}/eager/fp32/cpu": "toy/tiny/b2/beta/eager/fp32/cpu"
        for name in ("beta", "gamma")
    }
    assert launched(plan)[0] == "beta gamma"


def test_seeds_differ_between_cohorts_and_follow_the_protocol(world):
    first, again = world.plan(TWO), world.plan(TWO)
    other = world.plan(TWO, "protocol.seed=1")
    seeds = [cohort.seed for cohort in first.cohorts]
    assert len(set(seeds)) == 3
    assert [cohort.seed for cohort in again.cohorts] == seeds
    assert not {cohort.seed for cohort in other.cohorts} & set(seeds)


# What cannot run


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("execution=graph", "no execution graph; it has eager, compiled"),
        ("precision=fp16", "no fp16 on cpu; it has fp32, bf16"),
        ("device=metal", "does not run on metal"),
        ("num_devices=2", "on 1 device(s) at most here, not on 2"),
    ],
)
def test_what_a_framework_does_not_offer_is_unsupported(override, words, world):
    plan = world.plan("framework=alpha", override)
    assert actions(plan) == {"alpha": "unsupported"}
    assert words in reasons(plan)["alpha"]
    assert plan.cohorts == ()


def test_an_entry_of_the_framework_gives_its_reason_and_link(world):
    entry = Unsupported("no bf16 kernels", "https://example.org/1", precision="bf16")
    world.add("alpha", unsupported=(entry,))
    plan = world.plan("framework=alpha", "precision=bf16")
    assert reasons(plan) == {"alpha": "no bf16 kernels (https://example.org/1)"}


def test_an_entry_may_be_of_one_workload(world):
    entry = Unsupported("no such attention", "https://example.org/2", workload="other")
    world.add("alpha", unsupported=(entry,))
    assert actions(world.plan("framework=alpha")) == {"alpha": "run"}
    world.add("alpha", unsupported=(dataclasses.replace(entry, workload="toy"),))
    plan = world.plan("framework=alpha")
    assert reasons(plan) == {"alpha": "no such attention (https://example.org/2)"}


def test_settings_of_requests_are_nothing_to_training(world):
    def key(*overrides):
        (cell,) = world.plan("framework=alpha", *overrides).cells
        return cell.result_key

    changed = "protocol.percentiles=[50]"
    assert key() == key(changed)
    assert key() != key("protocol.block_target_s=0.3")
    answering = Inference(per_batch=lambda work: 1, answer_error=lambda answer, read: 0.0)
    world.specs["toy"] = spec(task=answering)
    assert key() != key(changed)


def test_a_precision_that_the_mathematics_lacks_is_unsupported(world):
    world.specs["toy"] = spec(precisions=("fp32",))
    plan = world.plan("framework=alpha", "precision=bf16")
    assert reasons(plan) == {"alpha": "toy is not defined in bf16; it is in fp32"}


def test_without_a_compiler_what_needs_one_is_unsupported(world):
    world.has_compiler = False
    world.add("alpha", needs_compiler=(("compiled", "cpu"),))
    plan = world.plan("framework=alpha", "execution=all")
    by_execution = {cell.case.way.execution: cell for cell in plan.cells}
    assert by_execution["eager"].action == "run"
    assert "install g++ or clang++" in by_execution["compiled"].reason


def test_what_nobody_wrote_is_not_implemented_and_is_not_probed(world):
    world.implemented.remove(("toy", "beta"))
    del world.interpreters["beta"]
    plan = world.plan(TWO)
    assert actions(plan) == {"alpha": "run", "beta": "not_implemented"}
    assert reasons(plan)["beta"] == "toy is not implemented in beta"


def test_what_does_not_fit_says_both_figures(world):
    world.specs["toy"] = spec(memory_bytes=lambda case, capabilities: 20 * GIB)
    plan = world.plan("framework=alpha", "machine.memory_limit_gib=12")
    assert actions(plan) == {"alpha": "does_not_fit"}
    assert "20.0 GiB" in reasons(plan)["alpha"]
    assert "12.0 GiB" in reasons(plan)["alpha"]


def test_an_accelerators_own_memory_is_its_limit(world):
    world.machine["accelerators"] = [{"name": "a device", "memory_bytes": 10 * GIB}]
    world.interpreters["alpha"] = Interpreter("/python", {}, CUDA)
    world.specs["toy"] = spec(memory_bytes=lambda case, capabilities: case.work.batch_size * GIB)
    plan = world.plan("framework=alpha", "device=cuda", "batch_size=9,10")
    assert [cell.action for cell in plan.cells] == ["run", "skip"]


def test_more_devices_than_there_are_is_no_device(world):
    world.add("alpha", max_num_devices=8)
    world.interpreters["alpha"] = Interpreter("/python", {}, CUDA)
    plan = world.plan("framework=alpha", "device=cuda", "batch_size=4", "num_devices=2,4")
    assert [cell.kind for cell in plan.cells] == [None, "no_device"]
    assert plan.cells[1].reason.startswith("alpha sees 2 cuda devices here, 4 are requested; ")
    assert plan.cells[1].reason.endswith("GiB of memory on each of 4 devices")


# Several devices of one launch


@pytest.fixture
def on_two(world):
    """The world with a framework that uses up to four devices, of which it sees two of each."""
    world.add("alpha", max_num_devices=4)
    world.interpreters["alpha"] = Interpreter("/python", {}, {"cpu": 2, "cuda": 2})
    world.machine["accelerators"] = [{"name": "a device", "memory_bytes": 10 * GIB}]
    return world


def test_a_batch_that_the_devices_cannot_share_equally_is_unsupported(on_two):
    plan = on_two.plan("framework=alpha", "num_devices=2", "batch_size=3,4")
    assert [cell.action for cell in plan.cells] == ["skip", "run"]
    assert plan.cells[0].kind == "unsupported"
    assert plan.cells[0].reason.startswith("a batch of 3 cannot be shared equally by 2 devices")


def test_an_accelerator_holds_its_share_of_the_batch(on_two):
    on_two.specs["toy"] = spec(memory_bytes=lambda case, _: (1 + case.work.batch_size) * GIB)
    plan = on_two.plan("framework=alpha", "device=cuda", "num_devices=2", "batch_size=16,18")
    assert [cell.memory_bytes for cell in plan.cells] == [9 * GIB, 10 * GIB]
    assert [cell.action for cell in plan.cells] == ["run", "skip"]  # 9.0 of each one's 9.0 GiB
    assert "needs up to 10.0 GiB of cuda memory on each device" in plan.cells[1].reason


def test_devices_whose_memory_is_the_hosts_take_it_together(on_two):
    on_two.specs["toy"] = spec(memory_bytes=lambda case, _: (1 + case.work.batch_size) * GIB)
    [cell] = on_two.plan("framework=alpha", "num_devices=2", "batch_size=4").cells
    assert cell.memory_bytes == 2 * (1 + 2) * GIB


def test_the_number_of_devices_is_part_of_work_whose_statistics_are_per_replica(on_two):
    batch = ("framework=alpha", "num_devices=1,2", "batch_size=4")
    assert {cell.case.work.num_replicas for cell in on_two.plan(*batch).cells} == {1}
    on_two.specs["toy"] = spec(per_replica_statistics=True)
    on_two.per_replica = {"alpha"}
    alone, both = on_two.plan(*batch).cells
    assert (alone.case.work.num_replicas, both.case.work.num_replicas) == (1, 2)
    assert both.action == "run"
    assert both.case.work == dataclasses.replace(alone.case.work, num_replicas=2)


def test_what_takes_statistics_over_the_whole_batch_is_other_work_on_several_devices(on_two):
    on_two.specs["toy"] = spec(per_replica_statistics=True)
    alone, both = on_two.plan("framework=alpha", "num_devices=1,2", "batch_size=4").cells
    assert (alone.action, both.kind) == ("run", "unsupported")
    assert "does not take the batch statistics of toy over each device's share" in both.reason


# What was named outright


def test_a_framework_that_is_not_installed_is_missing_where_it_is_named(world):
    world.interpreters["beta"] = "beta is not installed"
    assert actions(world.plan(TWO))["beta"] == "not_installed"
    assert world.plan(TWO).missing == ("beta: beta is not installed",)
    assert world.plan("+framework=beta").missing == ("beta: beta is not installed",)


def test_under_all_it_is_a_skip(world):
    world.interpreters["beta"] = "beta is not installed"
    plan = world.plan("framework=all")
    assert actions(plan)["beta"] == "not_installed"
    assert plan.missing == ()


def test_of_a_suite_file_it_is_a_skip(world):
    world.interpreters["beta"] = "beta is not installed"
    file = world.write("mine.yaml", "matrices: [{workload: toy, size: tiny, framework: beta}]")
    plan = world.plan(f"suite={file}")
    kinds = {cell.case.way.framework: cell.kind for cell in plan.cells}
    assert kinds == {"beta": "not_installed"}
    assert plan.missing == ()


def test_a_device_that_nothing_sees_is_missing_where_it_is_named(world):
    plan = world.plan("framework=all", "device=cuda")
    assert set(actions(plan).values()) == {"no_device"}
    assert "no cuda device seen by alpha here" in plan.missing


def test_a_device_that_only_others_see_is_missing_for_a_framework_that_is_named(world):
    world.interpreters["alpha"] = Interpreter("/python", {}, CUDA)
    assert world.plan("framework=all", "device=cuda").missing == ()
    assert world.plan(TWO, "device=cuda").missing == ("no cuda device seen by beta here",)
    assert world.plan(TWO, "device=all").missing == ()


def test_auto_is_the_best_device_that_any_framework_sees(world):
    world.interpreters["beta"] = Interpreter("/python", {}, CUDA)
    plan = world.plan(TWO, "device=auto")
    assert {cell.case.place.device for cell in plan.cells} == {"cuda"}
    assert best_device({"a": Interpreter("", {}, {"cpu": 1, "tpu": 0}), "b": "none"}) == "cpu"
    assert best_device({}) == "cpu"


def test_an_interpreter_for_an_unknown_framework_is_refused(world):
    with pytest.raises(UsageError, match=r"did you mean alpha\?"):
        world.plan(TWO, "machine.python.alhpa=/python")


# What is there already


def test_a_complete_run_is_had_and_nothing_is_repeated(world):
    world.store.run(world.plan(THREE))
    plan = world.plan(THREE)
    assert plan.cohorts == ()
    assert set(actions(plan).values()) == {"have"}
    assert reasons(plan)["beta"] == f"3 cohorts in {plan.run_id}"


def test_the_same_command_continues_its_run_with_the_next_index(world):
    first = world.plan(THREE)
    world.store.run(first, num_cohorts=2)
    plan = world.plan(THREE)
    assert plan.run_id == first.run_id
    assert [cohort.cohort_id for cohort in plan.cohorts] == [f"{first.run_id}/0/2"]
    assert launched(plan) == ["alpha beta gamma"]


def test_a_framework_added_later_is_measured_with_the_base_alone(world):
    first = world.plan(TWO)
    world.store.run(first)
    plan = world.plan(THREE)
    assert plan.run_id != first.run_id
    assert launched(plan) == ["alpha gamma"] * 3
    assert actions(plan) == {"alpha": "have", "beta": "have", "gamma": "run"}
    assert "launched again as the base of other cases" in reasons(plan)["alpha"]


def test_only_cohorts_shared_with_the_base_count(world):
    world.store.run(world.plan("framework=beta,gamma"))
    plan = world.plan(THREE)
    assert launched(plan) == ["alpha beta gamma"] * 3


def test_more_cohorts_add_to_those_there_are(world):
    world.store.run(world.plan(TWO))
    assert launched(world.plan(TWO, "protocol.num_cohorts=5")) == ["alpha beta"] * 2
    assert launched(world.plan(TWO, "protocol.num_cohorts=2")) == []


def test_a_failed_case_is_retried_and_the_others_are_not(world):
    world.store.run(world.plan(THREE), failing=("beta",))
    plan = world.plan(THREE)
    assert launched(plan) == ["alpha beta"] * 3
    assert actions(plan) == {"alpha": "have", "beta": "run", "gamma": "have"}


def test_a_base_that_fails_repeats_nobody_else(world):
    world.store.run(world.plan(THREE), failing=("alpha",))
    plan = world.plan(THREE)
    assert launched(plan) == ["alpha"] * 3
    assert actions(plan) == {"alpha": "run", "beta": "have", "gamma": "have"}


def test_launches_before_a_failure_no_longer_count(world):
    world.store.run(world.plan(TWO))
    world.store.mark(3, "crashed")  # beta in the second of three cohorts
    assert launched(world.plan(TWO)) == ["alpha beta"] * 2


def test_interrupted_launches_are_measured_again_and_are_no_failures(world):
    world.store.run(world.plan(TWO))
    world.store.mark(4, "interrupted")
    world.store.mark(5, "interrupted")
    assert launched(world.plan(TWO)) == ["alpha beta"]


def test_cases_with_unlike_gaps_share_the_cohorts_that_both_need(world):
    world.store.run(world.plan(THREE))
    world.store.mark(7, "interrupted")  # beta in the last cohort
    world.store.mark(2, "interrupted")
    world.store.mark(5, "interrupted")
    assert launched(world.plan(THREE)) == ["alpha beta gamma", "alpha gamma"]


def test_fresh_counts_nothing_and_starts_a_run_of_its_own(world):
    first = world.plan(TWO)
    world.store.run(first)
    plan = world.plan(TWO, fresh=True)
    assert plan.fresh
    assert plan.run_id != first.run_id
    assert launched(plan) == ["alpha beta"] * 3
    world.store.run(plan, num_cohorts=1)
    assert world.plan(TWO, fresh=True).run_id not in (first.run_id, plan.run_id)


@pytest.mark.parametrize(
    "override",
    ["protocol.block_target_s=0.3", "machine.num_threads=1", "seed=1", "protocol=smoke"],
)
def test_a_setting_that_changes_the_numbers_makes_them_others(override, world):
    world.store.run(world.plan(TWO))
    assert set(actions(world.plan(TWO, override)).values()) == {"run"}


@pytest.mark.parametrize(
    "override", ["protocol.seed=1", "protocol.timeouts_s.turn=9", "machine.lock_folder=locks"]
)
def test_a_setting_that_leaves_the_numbers_alone_does_not(override, world):
    world.store.run(world.plan(TWO))
    assert set(actions(world.plan(TWO, override)).values()) == {"have"}


@pytest.mark.parametrize(
    "path",
    [
        "lab/workloads/toy/beta_impl.py",
        "lab/frameworks/beta/adapter.py",
        "lab/frameworks/beta/__init__.py",
    ],
)
def test_a_changed_file_makes_that_frameworks_results_others(path, world):
    world.store.run(world.plan(THREE))
    world.write(path, "CHANGED = True\n")
    plan = world.plan(THREE)
    assert actions(plan) == {"alpha": "have", "beta": "run", "gamma": "have"}


def test_another_version_makes_the_results_others(world):
    world.store.run(world.plan(TWO))
    world.interpreters["beta"] = Interpreter("/python", {"beta": "2.0"}, {"cpu": 1})
    assert actions(world.plan(TWO)) == {"alpha": "have", "beta": "run"}


# Groups, parts and the base against itself


def test_parts_take_turns_so_that_drift_spreads(world):
    plan = world.plan("framework=alpha", "batch_size=1,2")
    groups = [cohort.group_id for cohort in plan.cohorts]
    assert groups == ["toy/tiny/b1/cpu", "toy/tiny/b2/cpu"] * 3


def test_each_precision_has_its_own_base_and_cohorts(world):
    plan = world.plan(TWO, "precision=fp32,bf16", "protocol.num_cohorts=1")
    assert launched(plan) == ["alpha beta", "alpha beta"]
    assert set(plan.bases.values()) == {
        "toy/tiny/b2/alpha/eager/fp32/cpu",
        "toy/tiny/b2/alpha/eager/bf16/cpu",
    }


def test_a_group_of_too_many_is_split_and_each_part_holds_the_base(world):
    plan = world.plan(THREE, "machine.max_resident=2", "protocol.num_cohorts=1")
    assert launched(plan) == ["alpha beta", "alpha gamma"]


def test_a_group_that_does_not_fit_is_split(world):
    world.specs["toy"] = spec(memory_bytes=lambda case, capabilities: 5 * GIB)
    plan = world.plan(THREE, "machine.memory_limit_gib=12", "protocol.num_cohorts=1")
    assert launched(plan) == ["alpha beta", "alpha gamma"]
    whole = world.plan(THREE, "machine.memory_limit_gib=15", "protocol.num_cohorts=1")
    assert launched(whole) == ["alpha beta gamma"]


def test_a_split_run_that_is_complete_is_had(world):
    limits = ("machine.max_resident=2",)
    world.store.run(world.plan(THREE, *limits))
    assert world.plan(THREE, *limits).cohorts == ()


def test_pools_of_an_accelerator_are_equal_shares(world):
    world.machine["accelerators"] = [{"name": "a device", "memory_bytes": 10 * GIB}]
    sizes = {"alpha": 2, "beta": 4, "gamma": 2}
    world.specs["toy"] = spec(
        memory_bytes=lambda case, capabilities: sizes[case.way.framework] * GIB
    )
    for name in sizes:
        world.interpreters[name] = Interpreter("/python", {}, CUDA)
    plan = world.plan(THREE, "device=cuda", "protocol.num_cohorts=1")
    assert launched(plan) == ["alpha beta", "alpha gamma"]


def test_the_base_is_launched_twice_where_it_is_to_be_checked(world):
    plan = world.plan(TWO, "protocol.aa=true")
    assert launched(plan) == ["alpha alpha' beta"] * 3
    world.store.run(plan)
    assert world.plan(TWO, "protocol.aa=true").cohorts == ()


def test_the_check_of_the_base_is_added_to_a_run_without_it(world):
    world.store.run(world.plan(TWO))
    plan = world.plan(TWO, "protocol.aa=true")
    assert launched(plan) == ["alpha alpha'"] * 3
    assert actions(plan) == {"alpha": "run", "beta": "have"}


def test_of_a_split_group_one_part_adds_the_launches_that_the_base_lacks(world):
    world.store.run(world.plan(THREE, "machine.max_resident=2"))
    plan = world.plan(THREE, "machine.max_resident=3", "protocol.aa=true")
    assert launched(plan) == ["alpha alpha'"] * 3


# Size and time


def test_a_plan_of_1000_cells_reads_the_store_once(world):
    plan = world.plan(TWO, "batch_size=range(1,501)")
    assert len(plan.cells) == 1000
    assert len(plan.cohorts) == 1500
    assert len({cell.result_key for cell in plan.cells}) == 1000
    assert world.store.num_reads == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ("batch_size=range(0,1000000000)",),
        (TWO, "batch_size=range(1,1002)"),
        (TWO, "batch_size=range(1,1001)", "seed=range(0,1000)", "num_devices=range(1,1001)"),
    ],
)
def test_too_many_cells_are_refused_before_they_are_expanded(overrides, world):
    with pytest.raises(UsageError, match="at most 2,000"):
        world.plan(*overrides)


def test_cells_that_two_matrices_share_are_there_once(world):
    cell = "{workload: toy, size: tiny, framework: alpha, execution: eager}"
    file = world.write("mine.yaml", f"matrices: [{cell}, {cell}]")
    assert len(world.plan(f"suite={file}", "framework=alpha,alpha").cells) == 1


def test_the_estimate_comes_from_earlier_launches_where_there_are_any(world):
    fresh = world.plan("framework=alpha")
    assert fresh.cells[0].estimate_basis == "rule of thumb by FLOP"
    world.store.run(fresh)
    [cell] = world.plan("framework=alpha", "protocol.num_cohorts=5").cells
    assert cell.estimate_s == pytest.approx(2 * 5.0)
    assert cell.estimate_basis == "3 earlier launches"


def test_a_had_base_counts_the_time_of_being_launched_again(world):
    world.store.run(world.plan(TWO))
    by_name = {cell.case.way.framework: cell for cell in world.plan(THREE).cells}
    assert by_name["alpha"].estimate_s == pytest.approx(3 * 5.0)
    assert by_name["beta"].estimate_s is None
    others_s = by_name["gamma"].estimate_s
    assert world.plan(THREE).estimate_s == pytest.approx(3 * 5.0 + others_s)
