"""The grammar of overrides, and what is refused before anything is composed."""

import pytest

from benchmarks.errors import EXIT_USAGE, UsageError
from benchmarks.planning.overrides import parse

ATTACKS = [
    # One row for each way to run code, write a file or read a secret that Hydra 1.3 leaves open.
    ("hydra.callbacks.evil._target_=os.system", "overrides of hydra are refused"),
    ("+hydra.callbacks.evil.x=1", "overrides of hydra are refused"),
    ("++hydra.callbacks.evil.x=1", "overrides of hydra are refused"),
    ("hydra.job_logging.handlers.file.filename=/tmp/x", "overrides of hydra are refused"),
    ("hydra/job_logging=colorlog", "overrides of hydra are refused"),
    ("hydra/launcher=joblib", "overrides of hydra are refused"),
    ("hydra.searchpath=[/tmp]", "overrides of hydra are refused"),
    ("hydra.run.dir=/tmp", "overrides of hydra are refused"),
    ("hydra.mode=MULTIRUN", "overrides of hydra are refused"),
    ("hydra.job.env_set.LD_PRELOAD=/tmp/x.so", "overrides of hydra are refused"),
    ("hydra.job.env_copy=[API_TOKEN]", "overrides of hydra are refused"),
    ("~hydra.job", "overrides of hydra are refused"),
    ("hydra=x", "overrides of hydra are refused"),
    (" hydra.run.dir=/tmp", "overrides of hydra are refused"),
    ("protocol._target_=os.system", "_target_ is refused"),
    ("+machine._partial_=true", "_partial_ is refused"),
    ("machine.python={_args_:[1]}", "_args_ is refused"),
    ("protocol._recursive_=true", "_recursive_ is refused"),
    ("+protocol._convert_=all", "_convert_ is refused"),
    ("machine.cache_folder=${oc.env:API_TOKEN}", "interpolations are refused"),
    ("machine.cache_folder='${oc.env:API_TOKEN}'", "interpolations are refused"),
    ("workload=${oc.decode:x}", "interpolations are refused"),
    ("seed=${protocol.seed}", "interpolations are refused"),
    ("+unknown=1", "unknown key 'unknown'"),
    ("++unknown.key=1", "unknown key 'unknown.key'"),
    ("~unknown", "nothing can be removed"),
    ("~protocol", "nothing can be removed"),
    ("+protocol.num_procesess=3", "unknown key of protocol 'num_procesess'"),
    ("suite@machine=quick", r"packages \(@\) are refused"),
    ("device_rules.cuda.min_warmup_s=0", "unknown key 'device_rules.cuda.min_warmup_s'"),
    ("defaults=[x]", "unknown key 'defaults'"),
]

MISTAKES = [
    ("framewrok=jax", r"did you mean framework\?"),
    ("protocol.num_cohort=3", r"did you mean num_cohorts\?"),
    ("framework", "expected KEY=VALUE"),
    ("--multirun", "expected KEY=VALUE"),
    ("suite=quick,documents", "one run has one suite"),
    ("protocol=quick,rigorous", "one run has one protocol"),
    ("suite=", "expected a name"),
    ("protocol={seed:1}", "expected a name"),
    ("protocol.num_cohorts=3,5", "a sweep over protocol.num_cohorts is not possible"),
    ("machine.num_threads=range(1,3)", "a sweep over machine.num_threads is not possible"),
    ("framework=glob(*)", "expected a value, a comma list"),
    ("seed=interval(0,1)", "expected a value, a comma list"),
    ("seed=shuffle(1,2)", "Dyno itself shuffles"),
    ("seed=shuffle(range(1,3))", "not shuffled"),
    ("seed=range(1,1)", "holds values"),
    ("seed=range(1,3,0)", "a step that is not 0"),
    ("seed=range(0,1e999)", "between finite numbers"),
    ("seed=[" + ",".join(map(str, range(2001))) + "]", "2,001 cells, at most 2,000"),
]


@pytest.mark.parametrize(("text", "words"), ATTACKS + MISTAKES)
def test_refuses(text, words):
    with pytest.raises(UsageError) as caught:
        parse([text])
    assert caught.match(words)
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(("text", "words"), ATTACKS)
def test_refuses_it_behind_others_that_are_fine(text, words):
    with pytest.raises(UsageError, match=words):
        parse(["framework=pytorch", text])


@pytest.mark.parametrize("stop", ["1000000000", "1e300"])
def test_a_range_is_counted_and_not_expanded(stop):
    with pytest.raises(UsageError, match="at most 2,000"):
        parse([f"batch_size=range(0,{stop})"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("framework=pytorch", ("pytorch",)),
        ("framework=pytorch,jax", ("pytorch", "jax")),
        ("framework='pytorch','jax'", ("pytorch", "jax")),
        ("framework=[pytorch,jax]", ("pytorch", "jax")),
        ("framework=choice(pytorch,jax)", ("pytorch", "jax")),
        ("+framework=all", ("all",)),
        ("size=7b", ("7b",)),
        ("batch_size=8", (8,)),
        ("batch_size=range(8,33,8)", (8, 16, 24, 32)),
        ("batch_size=range(3,0,-1)", (3, 2, 1)),
        ("batch_size=sort(16,8)", (8, 16)),
    ],
)
def test_an_axis_takes_a_value_a_list_or_a_range(text, values):
    assert parse([text]).axes == {text.strip("+").partition("=")[0]: values}


def test_the_last_of_two_overrides_of_an_axis_counts():
    assert parse(["seed=1", "seed=2"]).axes == {"seed": (2,)}


def test_a_workloads_own_axis_is_an_axis():
    assert parse(["sequence_length=128"], options=["sequence_length"]).axes == {
        "sequence_length": (128,)
    }


def test_groups_and_settings_are_told_from_axes():
    found = parse(
        ["suite=quick", "protocol=smoke", "protocol.block_target_s=0.2", "+protocol.seed=3"]
    )
    assert found.axes == {}
    assert found.groups == {"suite": "quick", "protocol": "smoke"}
    assert found.hydra == ("protocol.block_target_s=0.2", "protocol.seed=3")


def test_an_entry_of_a_mapping_is_added():
    found = parse(["machine.python.jax=/opt/python", "protocol.timeouts_s.turn=3"])
    assert found.hydra == ("++machine.python.jax=/opt/python", "++protocol.timeouts_s.turn=3")


def test_named_is_what_was_written_and_not_what_all_stands_for():
    found = parse(["framework=pytorch,jax", "device=all"])
    assert found.is_named("framework", "jax")
    assert not found.is_named("framework", "mlx")
    assert not found.is_named("device", "cuda")
