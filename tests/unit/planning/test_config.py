"""The files of configs/ and a user's own suite, held to their dataclasses."""

import pytest

from benchmarks.contract.device import DEVICE_KINDS
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.errors import UsageError
from benchmarks.planning import config
from benchmarks.planning.overrides import parse

# Reference: method, section 1.1; quick has 4 rounds and 1.5 s in place of 8 and 30 s, for a first
# look in minutes.
PRESETS = {
    "smoke": (1, 3, 3, 0.05, 10),
    "quick": (3, 4, 20, 0.2, 1.5),
    "standard": (5, 10, 40, 0.2, 20),
    "rigorous": (10, 20, 80, 0.5, 180),
}


def resolve(*overrides):
    return config.resolve(parse(overrides))


def test_without_overrides_it_is_the_quick_suite_and_protocol():
    resolved = resolve()
    assert resolved.suite_name == "quick"
    assert resolved.configuration.protocol.name == "quick"
    assert isinstance(resolved.configuration.protocol, MeasuringProtocol)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_values_of_the_method(name):
    protocol = resolve(f"protocol={name}").configuration.protocol
    assert protocol.name == name
    assert (
        protocol.num_cohorts,
        protocol.min_rounds,
        protocol.max_rounds,
        protocol.block_target_s,
        protocol.max_launch_s,
    ) == PRESETS[name]


def test_smoke_warms_up_shortly():
    protocol = resolve("protocol=smoke").configuration.protocol
    assert (protocol.warmup_window, protocol.min_warmup_steps, protocol.min_warmup_s) == (3, 3, 0)


def test_each_kind_of_device_has_its_rules():
    rules = resolve().configuration.device_rules
    assert set(rules) == set(DEVICE_KINDS)
    assert all(rules[device].name == device for device in DEVICE_KINDS)
    assert {rules[device].min_steps_per_sample for device in ("cuda", "metal", "tpu")} == {5}


@pytest.mark.parametrize(
    ("model", "bf16"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA A100-10C", None),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA GH200 480GB", None),
    ],
)
def test_a_peak_is_that_of_the_very_model(model, bf16):
    rules = resolve().configuration.device_rules["cuda"]
    assert rules.peak_of({"name": model, "mig": None}, "bf16") == bf16
    assert rules.peak_of({"name": model, "mig": False}, "bf16") == bf16


def test_a_divided_gpu_has_no_peak():
    rules = resolve().configuration.device_rules["cuda"]
    assert rules.peak_of({"name": "NVIDIA H100 80GB HBM3", "mig": True}, "bf16") is None


@pytest.mark.parametrize("name", ["quick", "documents"])
def test_every_suite_can_be_read(name):
    assert name in config.names("suite")
    suite = config.read_suite(name)
    assert suite.description
    assert suite == resolve(f"suite={name}").configuration.suite


def test_settings_replace_those_of_the_preset():
    configuration = resolve(
        "protocol=smoke",
        "protocol.num_cohorts=2",
        "protocol.timeouts_s.turn=3",
        "machine.python.jax=/opt/python",
        "machine.memory_limit_gib=2",
    ).configuration
    assert configuration.protocol.num_cohorts == 2
    assert configuration.protocol.max_rounds == 3
    assert configuration.protocol.timeout_s("turn") == 3
    assert configuration.protocol.timeout_s("build") == 300
    assert configuration.machine.python == {"jax": "/opt/python"}
    assert configuration.machine.memory_limit_gib == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("suite=qick", r"unknown suite 'qick'\nhint: did you mean quick\?"),
        ("protocol=standart", r"did you mean standard\?"),
        ("suite=../suite/quick", "unknown suite"),
        ("machine=other", "unknown machine"),
        ("protocol.num_cohorts=many", "protocol.num_cohorts: .*'many'"),
        ("protocol.num_cohorts=1.5", "protocol.num_cohorts: .*'1.5'"),
        ("protocol.num_cohorts=0", "protocol.num_cohorts=0: expected 1 or more"),
        ("protocol.aa=perhaps", "protocol.aa: .*'perhaps'"),
        ("protocol.max_rounds=2", "protocol.max_rounds=2: expected 4 or more"),
        ("protocol.block_target_s=inf", "protocol.block_target_s=inf: expected a finite"),
        ("protocol.min_warmup_steps=-1", "protocol.min_warmup_steps=-1: expected 0 or more"),
        ("protocol.min_warmup_s=-1", "protocol.min_warmup_s=-1.0: expected 0 or more"),
        ("protocol.timeouts_s.lunch=3", "expected seconds above 0 for phases among"),
        ("protocol.timeouts_s.turn=soon", "protocol.timeouts_s.turn: .*'soon'"),
        ("protocol.timeouts_s=3", "protocol.timeouts_s"),
        ("protocol.num_cohorts.x=3", "protocol.num_cohorts"),
        ("machine.num_threads=0", "machine.num_threads=0: expected more than 0"),
        ("machine.max_resident=0", "machine.max_resident=0: expected more than 0"),
        ("machine.memory_limit_gib=nan", "machine.memory_limit_gib=nan: expected a finite"),
        ("machine.python=null", "machine.python"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_key(override, words):
    with pytest.raises(UsageError, match=words):
        resolve(override)


def test_a_key_that_hydra_would_append_is_refused_by_the_schema():
    """Hydra accepts +protocol.typo=3, and OmegaConf would then drop the key without a word."""
    content = config.compose(["+protocol.typo=3"])
    with pytest.raises(UsageError, match="typo"):
        config.typed(content)


# A user's own suite file


def suite_file(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return file


def test_a_suite_file_is_a_suite(tmp_path):
    file = suite_file(tmp_path, "matrices: [{workload: toy, batch_size: [1, 2]}]")
    resolved = resolve(f"suite={file}")
    assert resolved.suite_name == "mine"
    [matrix] = resolved.configuration.suite.matrices
    assert (matrix.workload, matrix.batch_size, matrix.device) == ("toy", [1, 2], "auto")


BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, r"aliases \(\*a0\) are refused"),
        ("matrices: [{workload: '${oc.env:HOME}'}]", "interpolations are refused"),
        ("matrices: [{workloda: toy}]", "workloda"),
        ("matrices: [{_target_: os.system}]", "_target_"),
        ("matrix: []", "matrix"),
        ("matrices: []", "it has no matrices"),
        ("matrices: [{workload: toy, workload: other}]", "not YAML"),
        ("matrices: [", "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("- workload", "expected a mapping"),
        ("", "it has no matrices"),
        ("\x00", "not YAML"),
        ("#" * (2**20 + 1), "expected at most 1 MiB"),
    ],
)
def test_a_suite_file_that_is_none_is_refused(text, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        resolve(f"suite={suite_file(tmp_path, text)}")


def test_a_suite_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.yaml: cannot be read: No such file"):
        resolve(f"suite={tmp_path / 'none.yaml'}")


def test_a_suite_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="not YAML"):
        resolve(f"suite={file}")


def test_a_suite_asks_for_its_percentiles_unless_the_command_line_does(tmp_path):
    suite = tmp_path / "tails.yaml"
    suite.write_text("percentiles: [50, 99]\nmatrices: [{workload: resnet50_infer}]\n")
    assert resolve(f"suite={suite}").configuration.protocol.percentiles == [50, 99]
    asked = resolve(f"suite={suite}", "protocol.percentiles=[90]").configuration
    assert asked.protocol.percentiles == [90]
    assert resolve().configuration.protocol.percentiles == [50, 90]


def test_a_percentile_that_is_none_is_refused(tmp_path):
    suite = tmp_path / "tails.yaml"
    suite.write_text("percentiles: [100]\nmatrices: [{}]\n")
    with pytest.raises(UsageError, match="expected numbers from 50 to 99"):
        resolve(f"suite={suite}")
    with pytest.raises(UsageError, match="expected numbers from 50 to 99"):
        resolve("protocol.percentiles=[20]")
