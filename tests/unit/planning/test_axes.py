"""From matrices and overrides to cases."""

import pytest

from benchmarks.errors import UsageError
from benchmarks.planning.axes import cases, matrices
from benchmarks.planning.config import MatrixConfig
from tests.unit.planning.worlds import spec

OPTIONS = {"sequence_length": (128, 512), "task": ("train", "infer")}


@pytest.fixture
def expand(world):
    """A function from a matrix's axes and overrides to the axes of its cases."""
    world.specs["wordy"] = spec("wordy", options=OPTIONS, default_batch_size={"tiny": 4, "full": 8})
    world.specs["long"] = spec(
        "long",
        options={"length": range(2, 1025)},
        size_options={"full": {"length": 512}},
        way_options={"recompute": ("none", "full")},
    )

    def expand(*configs, **overrides):
        given = {k: v if isinstance(v, tuple) else (v,) for k, v in overrides.items()}
        found = matrices([MatrixConfig(**one) for one in configs], given, world.catalog())
        return [case.axes() for case in cases(found, "cpu")]

    return expand


ONE = {"workload": "toy", "size": "tiny", "framework": "alpha", "execution": "eager"}
WORDY = {**ONE, "workload": "wordy"}


def values(found, axis):
    return [case[axis] for case in found]


def test_axes_that_are_left_out_have_their_defaults(expand):
    assert expand(ONE) == [
        {
            "workload": "toy",
            "size": "tiny",
            "batch_size": 2,
            "framework": "alpha",
            "execution": "eager",
            "precision": "fp32",
            "device": "cpu",
            "num_devices": 1,
        }
    ]


def test_the_default_batch_size_is_the_sizes_own(expand):
    assert values(expand(ONE, size=("tiny", "full")), "batch_size") == [2, 32]


def test_a_matrix_is_a_product_with_its_groups_together(expand):
    found = expand(ONE, batch_size=(1, 2), framework=("beta", "alpha"))
    pairs = [(case["batch_size"], case["framework"]) for case in found]
    assert pairs == [(1, "beta"), (1, "alpha"), (2, "beta"), (2, "alpha")]


def test_an_override_replaces_the_axis_in_every_matrix(expand):
    other = {**ONE, "framework": "beta", "precision": "bf16"}
    found = expand(ONE, other, framework="gamma")
    assert values(found, "framework") == ["gamma", "gamma"]
    assert values(found, "precision") == ["fp32", "bf16"]


@pytest.mark.parametrize(
    ("axis", "known"),
    [
        ("workload", ["toy", "wordy", "long"]),
        ("size", ["tiny", "full"]),
        ("framework", ["alpha", "beta", "gamma"]),
        ("execution", ["eager", "graph", "compiled"]),
        ("precision", ["fp32", "tf32", "bf16", "fp16", "bf16_pure", "fp64", "int8"]),
        ("device", ["cpu", "cuda", "metal", "tpu"]),
    ],
)
def test_all_stands_for_every_known_value(axis, known, expand):
    assert values(expand(ONE, **{axis: "all"}), axis) == known


@pytest.mark.parametrize("axis", ["batch_size", "num_devices", "seed"])
def test_all_of_what_cannot_be_enumerated_is_refused(axis, expand):
    with pytest.raises(UsageError, match=f"{axis}=all: all {axis} cannot be enumerated"):
        expand(ONE, **{axis: "all"})


@pytest.mark.parametrize(
    ("axis", "value", "words"),
    [
        ("framework", "aplha", r"framework=aplha: unknown framework 'aplha'\n.*did you mean alpha"),
        ("workload", "tow", r"workload=tow: unknown workload 'tow'\n.*did you mean toy"),
        ("size", "fll", r"unknown size of toy 'fll'\n.*did you mean full"),
        ("execution", "compile", r"did you mean compiled\?"),
        ("precision", "fp23", r"did you mean fp32\?"),
        ("device", "gpu", "known: cpu, cuda, metal, tpu, auto"),
        ("framework", 3, "unknown framework '3'"),
        ("framework", ("alpha", "all"), "expected `all` without other values"),
        ("framework", (), "at least one value"),
        ("batch_size", 0, "received 0, expected integers of 1 or more"),
        ("batch_size", 1.5, "received 1.5"),
        ("batch_size", "eight", "received 'eight'"),
        ("batch_size", True, "received True"),
        ("num_devices", 0, "expected integers of 1 or more"),
        ("num_devices", None, "received None"),
        ("seed", -1, "expected integers of 0 or more"),
    ],
)
def test_a_value_that_an_axis_does_not_have_is_refused(axis, value, words, expand):
    with pytest.raises(UsageError, match=words):
        expand(ONE, **{axis: value})


def test_a_value_of_a_suite_is_refused_with_its_place(expand):
    with pytest.raises(UsageError, match=r"matrices\[1\].framework=delta: unknown framework"):
        expand(ONE, {**ONE, "framework": "delta"})


def test_a_seed_is_part_of_the_work(expand, world):
    given = {"seed": (0, 7)}
    found = cases(matrices([MatrixConfig(**ONE)], given, world.catalog()), "cpu")
    assert [case.work.seed for case in found] == [0, 7]


# A workload's own axes


def test_an_option_has_the_specs_first_value_where_none_is_asked_for(expand):
    [case] = expand(WORDY)
    assert (case["sequence_length"], case["task"]) == (128, "train")


def test_an_option_can_be_swept_in_a_suite_and_on_the_command_line(expand):
    swept = {**WORDY, "options": {"sequence_length": [512, 128]}}
    assert values(expand(swept), "sequence_length") == [512, 128]
    assert values(expand(swept, sequence_length=512), "sequence_length") == [512]
    assert values(expand(WORDY, task="all"), "task") == ["train", "infer"]


def test_an_option_applies_to_the_workloads_that_have_it(expand):
    found = expand(ONE, workload="all", sequence_length=512)
    assert {case["workload"]: case.get("sequence_length") for case in found} == {
        "toy": None,
        "wordy": 512,
        "long": None,
    }


LONG = {**ONE, "workload": "long"}


def test_an_options_default_may_be_another_at_a_size(expand):
    assert values(expand({**LONG, "size": ["tiny", "full"]}), "length") == [2, 512]
    assert values(expand(LONG, length=(96, 1024)), "length") == [96, 1024]


def test_an_option_of_the_way_leaves_the_work_as_it_is(expand, world):
    found = matrices([MatrixConfig(**LONG)], {"recompute": ("none", "full")}, world.catalog())
    first, second = cases(found, "cpu")
    assert first.group_id == second.group_id
    assert [dict(one.way.options)["recompute"] for one in (first, second)] == ["none", "full"]
    assert second.case_id == "long/tiny/b2/length=2/alpha/eager/fp32/recompute=full/cpu"
    assert values(expand(LONG, recompute="all"), "recompute") == ["none", "full"]
    assert values(expand(LONG), "recompute") == ["none"]
    assert values(expand({**LONG, "options": {"recompute": "full"}}), "recompute") == ["full"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"sequence_length": 512}, "none of the selected workloads has this option"),
        ({"workload": "wordy", "sequence_length": 99}, "unknown sequence_length '99'"),
        ({"workload": "wordy", "task": "tarin"}, r"did you mean train\?"),
        ({"workload": "long", "length": 1}, "received 1, expected integers from 2 to 1,024"),
        ({"workload": "long", "length": "many"}, "received 'many', expected integers"),
        ({"workload": "long", "length": "all"}, "all length cannot be enumerated"),
        ({"workload": "long", "recompute": "some"}, "unknown recompute 'some'"),
    ],
)
def test_an_option_that_does_not_apply_is_refused(overrides, words, expand):
    with pytest.raises(UsageError, match=words):
        expand(ONE, **overrides)


def test_an_unknown_option_of_a_suite_is_refused(expand):
    with pytest.raises(UsageError, match=r"matrices\[0\].options: unknown option 'sequence'"):
        expand({**WORDY, "options": {"sequence": 1}})


def test_an_option_of_which_every_value_is_wanted_has_them_unless_asked(world, expand):
    world.specs["both"] = spec(
        "both", options={"phase": ("decode", "prefill")}, every_value_of=("phase",)
    )
    both = {**ONE, "workload": "both"}
    assert values(expand(both), "phase") == ["decode", "prefill"]
    assert values(expand(both, phase="prefill"), "phase") == ["prefill"]
    assert values(expand({**both, "options": {"phase": "decode"}}), "phase") == ["decode"]


def test_a_workload_of_the_command_line_takes_the_axes_of_its_own_matrices(expand):
    wordy = {**WORDY, "size": "full", "framework": "beta"}
    assert values(expand(ONE, wordy, workload="toy"), "framework") == ["alpha"]
    found = expand(ONE, wordy, workload="wordy")
    assert set(values(found, "framework")) == {"beta"}
    assert set(values(found, "size")) == {"full"}
    both = expand(ONE, wordy, workload=("toy", "wordy"))
    assert {(one["workload"], one["size"]) for one in both} == {("toy", "tiny"), ("wordy", "full")}


def test_one_that_the_suite_lacks_takes_the_axes_of_matrices_whose_sizes_it_has(expand, world):
    world.specs["small"] = spec("small", sizes={"tiny": {"n": 1}}, default_batch_size={"tiny": 1})
    found = expand(ONE, {**WORDY, "size": "full", "framework": "beta"}, workload="small")
    assert [(one["size"], one["framework"]) for one in found] == [("tiny", "alpha")]
    with pytest.raises(UsageError, match="size=full"):
        expand({**ONE, "size": "full"}, workload="small")


def test_options_of_a_matrix_that_the_named_workload_does_not_take_are_left_alone(expand):
    wordy = {**WORDY, "options": {"sequence_length": 512}}
    assert values(expand(ONE, wordy, workload="toy"), "workload") == ["toy"]
    with pytest.raises(UsageError, match="unknown option 'sequence_length'"):
        expand(wordy, workload="toy")
