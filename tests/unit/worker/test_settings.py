"""Settings that a framework cannot apply, and variables that do not stand, are refused."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.contract.framework import Capabilities
from benchmarks.worker import settings
from tests.unit.launch_settings import SETTINGS

CAPABILITIES = Capabilities(
    name="some",
    import_name="some",
    distributions=("some",),
    executions=("eager",),
    precisions={"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16")},
    asynchronous_devices=("cuda",),
    out_of_memory_patterns=(),
    limits_memory_on=("cuda",),
)


@pytest.mark.parametrize(
    "changes",
    [{}, {"precision": "bf16"}, {"device": "cuda", "memory_fraction": 0.4}],
    ids=str,
)
def test_what_the_framework_can_do_passes(changes):
    settings.check(CAPABILITIES, dataclasses.replace(SETTINGS, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "metal"},
        {"precision": "fp16"},
        {"execution": "compiled"},
        {"num_devices": 2},
        {"memory_fraction": 0.5},
    ],
    ids=str,
)
def test_what_it_cannot_do_is_refused(changes):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=rf"^some on \w+: received {name}={value}, expected"):
        settings.check(CAPABILITIES, dataclasses.replace(SETTINGS, **changes))


def test_more_devices_than_it_can_use_are_refused():
    two = dataclasses.replace(SETTINGS, num_devices=2)
    settings.check(dataclasses.replace(CAPABILITIES, max_num_devices=2), two)
    with pytest.raises(ValueError, match="received num_devices=2, expected one of 1"):
        settings.check(CAPABILITIES, two)


def test_a_variable_that_differs_or_lacks_is_refused():
    settings.check_environment({"THREADS": "2"}, {"THREADS": "2", "OTHER": "1"})
    with pytest.raises(ValueError, match="received THREADS=1, expected 2"):
        settings.check_environment({"THREADS": "2"}, {"THREADS": "1"})
    with pytest.raises(ValueError, match="received THREADS=None, expected 2"):
        settings.check_environment({"THREADS": "2"}, {})
