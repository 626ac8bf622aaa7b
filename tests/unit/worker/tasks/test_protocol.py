"""What is the same for every kind of work: a launch that is held to a proven one."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.contract.evidence import FAIL, PASS, FirstStep, ParityVerdict, Proven
from benchmarks.worker.tasks.protocol import held_to

PROVEN = Proven(
    "run-0-0-0", FirstStep(loss=7.0, gradient_norm=3.0, update_norm=0.03), ParityVerdict(PASS)
)
TOLERANCE = {"loss": 2e-6, "gradient_norm": 2e-3, "update_norm": 2e-3}


@pytest.mark.parametrize(
    ("name", "factor", "status"),
    [
        ("loss", 1 + 1e-5, PASS),  # sums in another order, at a larger size
        ("loss", 1 + 1e-4, FAIL),  # the gradient's tolerance would let it through
        ("gradient_norm", 1 + 1e-3, PASS),
        ("gradient_norm", 1 + 1e-2, FAIL),
        ("update_norm", 1 + 1e-2, FAIL),
    ],
)
def test_each_number_of_a_held_launch_has_its_own_tolerance(
    name: str, factor: float, status: str
) -> None:
    first = dataclasses.replace(PROVEN.step1, **{name: getattr(PROVEN.step1, name) * factor})
    found = held_to(PROVEN, first, TOLERANCE, limit=TOLERANCE["gradient_norm"])
    assert found.status == status
    if status == FAIL:
        assert name.replace("_", " ") in str(found.reason)
