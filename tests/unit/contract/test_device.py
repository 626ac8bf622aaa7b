"""The table of kinds of device, and the peaks of device models."""

import pytest

from benchmarks.contract.device import DEVICE_KINDS, DeviceRules, best, default_rules, is_host

RULES = DeviceRules(
    "cuda",
    peak_flop_per_s={"NVIDIA H200*": {"bf16": 9.9e14}, "NVIDIA H*": {"bf16": 1e14, "fp32": 6e13}},
)


@pytest.mark.parametrize(
    ("accelerator", "precision", "peak"),
    [
        ({"name": "NVIDIA H200 NVL"}, "bf16", 9.9e14),
        ({"name": "NVIDIA H200"}, "fp32", None),  # the first pattern that fits is the device's
        ({"name": "NVIDIA H100"}, "fp32", 6e13),
        ({"name": "An NVIDIA H100"}, "fp32", None),
        ({"name": "NVIDIA H100", "mig": True}, "fp32", None),
        ({}, "fp32", None),
    ],
)
def test_a_peak_is_known_by_the_whole_name_of_a_whole_device(accelerator, precision, peak):
    assert RULES.peak_of(accelerator, precision) == peak


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (["cpu", "cuda", "tpu"], "cuda"),
        (["cpu", "metal", "tpu"], "tpu"),
        (["cpu", "metal"], "metal"),
        (["abacus"], "cpu"),
        ([], "cpu"),
    ],
)
def test_the_best_kind_that_is_seen_is_measured(seen, kind):
    assert best(seen) == kind


def test_only_the_processor_is_the_host():
    assert [name for name in DEVICE_KINDS if is_host(name)] == ["cpu"]


def test_devices_that_queue_work_get_blocks_of_several_steps():
    assert {name: rules.min_steps_per_sample for name, rules in default_rules().items()} == {
        "cpu": 1,
        "cuda": 5,
        "metal": 5,
        "tpu": 5,
    }
