"""The evidence of the first step tells work from no work."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.contract.case import Work
from benchmarks.measuring import proof
from workloads.resnet50 import spec

SPEC = spec.SPECS["resnet50_train"]
INITIAL = dict(spec.weights(Work("resnet50_train", 1, "tiny", 2)))


def read_after_a_step(gradient: float) -> dict[str, np.ndarray]:
    """What a program reads whose gradient is the same number everywhere."""
    read: dict[str, np.ndarray] = {"loss": np.array(6.9)}
    for name, weight in INITIAL.items():
        if spec.is_statistic(name):
            continue
        decay = 1e-4 if spec.is_decayed(name) else 0.0
        read[f"optimizer/{name}"] = gradient + decay * weight
        read[f"weights/{name}"] = weight - 0.01 * read[f"optimizer/{name}"]
    return read


def test_the_gradient_comes_out_of_the_momentum() -> None:
    evidence = proof.step_evidence(SPEC, INITIAL, read_after_a_step(0.5))
    assert evidence.num_parameters == spec.num_parameters(spec.SIZES["tiny"])
    assert evidence.gradient_norm == pytest.approx(0.5 * evidence.num_parameters**0.5, rel=1e-6)
    decayed = 0.01 * evidence.gradient_norm
    assert evidence.update_norm == pytest.approx(decayed, rel=1e-2)
    assert evidence.statistics_norm is None
    assert evidence.failure is None


def test_a_parameter_that_did_not_move_is_no_work() -> None:
    read = read_after_a_step(0.5)
    read["weights/head/kernel"] = INITIAL["head/kernel"]
    evidence = proof.step_evidence(SPEC, INITIAL, read)
    assert evidence.num_unchanged == 1
    assert evidence.failure == "no step was made: head/kernel is unchanged"


def test_one_value_that_is_not_finite_is_seen() -> None:
    read = read_after_a_step(0.5)
    assert proof.is_finite(read)
    read["weights/stem/conv/kernel"][0, 0, 0, 0] = np.inf
    assert not proof.is_finite(read)
