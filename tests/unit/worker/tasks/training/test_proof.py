"""The evidence of the first step tells work from no work."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.contract.case import Work
from benchmarks.contract.evidence import FAIL, PASS, Check, ParityVerdict
from benchmarks.equivalence import precision
from benchmarks.equivalence.checks import REQUIRED
from benchmarks.worker.oracle_files import Oracle
from benchmarks.worker.precision import precision_checks
from benchmarks.worker.tasks.protocol import final_verdict
from benchmarks.worker.tasks.training import proof
from workloads.resnet50 import training_spec as spec

SPEC = spec.SPECS["resnet50_train"]
WEIGHTS = spec.weights(Work("resnet50_train", 1, "tiny", 2))
INITIAL = {name: array for name, array in WEIGHTS if not spec.is_statistic(name)}


def read_after_a_step(gradient: float) -> dict[str, np.ndarray]:
    """What a program reads whose gradient is the same number everywhere."""
    read: dict[str, np.ndarray] = {"loss": np.array(6.9)}
    for name, weight in INITIAL.items():
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
    assert evidence.failure == "the step left head/kernel unchanged, expected an update"


def test_a_weight_that_nothing_is_read_of_is_no_work() -> None:
    read = read_after_a_step(0.5)
    del read["optimizer/head/kernel"]
    failure = proof.step_evidence(SPEC, INITIAL, read).failure
    assert failure is not None
    assert failure.startswith("`read` returned head/kernel under no prefix")
    read["frozen/head/kernel"] = INITIAL["head/kernel"]
    assert proof.step_evidence(SPEC, INITIAL, read).failure is None


def test_one_value_that_is_not_finite_is_seen() -> None:
    read = read_after_a_step(0.5)
    assert proof.is_finite(read)
    read["weights/stem/conv/kernel"][0, 0, 0, 0] = np.inf
    assert not proof.is_finite(read)


def test_marks_tell_which_parameters_no_step_has_reached() -> None:
    before = read_after_a_step(0.5)
    after = {name: array + 0 for name, array in before.items()}
    assert set(proof.unmoved(proof.marks(before), proof.marks(after))) == set(INITIAL)
    for name in after:
        if name.startswith("optimizer/") and name != "optimizer/head/bias":
            after[name] = (
                after[name] * 0.9
            )  # the weight may stay as it is: its update was too small
    assert proof.unmoved(proof.marks(before), proof.marks(after)) == ["head/bias"]


def oracle_of(read: dict[str, np.ndarray]) -> Oracle:
    return Oracle("abc", read, other_loss=6.5, losses=(), followed={})


JUDGED = ("loss", "gradient", "gradient_tensor", "gradient_norm", "cosine", "update", "update_norm")
TOLERANCE = dict.fromkeys(JUDGED, 1e-3)


def proven(read: dict[str, np.ndarray]):
    oracle = oracle_of(read_after_a_step(0.5))
    return proof.prove_first_step(SPEC, INITIAL, read, oracle, TOLERANCE)


def test_the_oracles_own_step_passes() -> None:
    verdict = proven(read_after_a_step(0.5))
    assert (verdict.status, verdict.reason, verdict.oracle) == ("pass", None, "abc")
    assert max(check.error for check in verdict.checks if "own" not in check.name) < 1e-9


def test_a_frozen_weight_that_changed_is_the_cause_where_the_step_is_right() -> None:
    head = {"head/kernel": INITIAL["head/kernel"]}
    oracle = read_after_a_step(0.5) | {f"frozen/{name}": array for name, array in head.items()}
    read = dict(oracle) | {"frozen/head/kernel": head["head/kernel"] * np.float32(0.9999)}
    name = "weights/stem/conv/bn/bias"  # all updates together agree, of one rounding is much
    read[name] = read[name] + np.float32(2e-3) * (read[name] - INITIAL["stem/conv/bn/bias"])
    verdict = proof.prove_first_step(SPEC, INITIAL, read, oracle_of(oracle), TOLERANCE)
    assert verdict.status == "fail"
    assert verdict.causes == ()
    assert verdict.first_difference is None
    (cause,) = final_verdict(verdict, verdict.checks, proof.CAUSES).causes
    assert cause == "frozen base weights are in the optimizer, or are decayed"


def test_another_step_fails_with_its_first_difference_and_cause() -> None:
    verdict = proven(read_after_a_step(0.55))
    assert verdict.status == "fail"
    assert verdict.first_difference == "gradient of stem/conv/kernel"
    assert "1.1 times" in verdict.causes[0]
    assert "off by 0.1, at most 0.001; first to differ: gradient of stem" in verdict.reason


def test_arrays_of_another_shape_fail_before_anything_is_compared() -> None:
    read = read_after_a_step(0.5)
    read["weights/head/kernel"] = read["weights/head/kernel"].T
    verdict = proven(read)
    assert [check.name for check in verdict.checks] == ["parameters"]
    assert verdict.checks[0].worst_tensor == "weights/head/kernel"


def test_a_first_step_that_comes_out_otherwise_is_not_reproduced() -> None:
    first, again = (
        proof.step_evidence(SPEC, INITIAL, read_after_a_step(value)) for value in (0.5, 0.51)
    )
    assert proof.reproduction_check(first, first, TOLERANCE).passes
    failed = proof.reproduction_check(first, again, TOLERANCE)
    assert not failed.passes
    assert failed.error == pytest.approx(0.02, rel=1e-2)


def test_the_loss_on_another_batch_is_the_oracles() -> None:
    oracle = oracle_of({})
    assert proof.other_batch_check(6.5001, oracle, TOLERANCE).passes
    assert not proof.other_batch_check(6.6, oracle, TOLERANCE).passes


@pytest.mark.parametrize(("bits", "passes"), [(24, True), (11, False), (8, False)])
def test_products_that_are_coarser_than_their_name_do_not_pass(bits: int, passes: bool) -> None:
    class Rounding:
        """A framework whose products round their operands."""

        def put(self, array):
            return precision.rounded(array, bits=bits) if bits < 24 else array

        def get(self, value):
            return value

        def matmul(self, a, b):
            return a @ b

        def convolve(self, images, kernel):
            return precision._convolve(images, kernel)

    checks = precision_checks(Rounding(), "fp32")
    assert [check.name for check in checks] == ["gemm", "convolution"]
    assert [check.passes for check in checks] == [passes, passes]


def test_causes_of_the_first_step_come_before_those_of_later_checks() -> None:
    failed = [Check("frozen_after", 1.0, 0.0)]
    off = ParityVerdict(FAIL, causes=("padding",))
    assert final_verdict(off, failed, proof.CAUSES).causes == ("padding",)
    right = ParityVerdict(PASS)
    assert "frozen base weights" in final_verdict(right, failed, proof.CAUSES).causes[0]
    assert final_verdict(right, [], proof.CAUSES).causes == ()


def test_a_holder_of_the_oracle_has_no_verdict() -> None:
    assert final_verdict(None, [Check("losses", 1.0, 1e-3)], {}).status == "unproven"


def test_without_a_tolerance_for_what_matters_nothing_is_proven() -> None:
    oracle = oracle_of(read_after_a_step(0.5))
    tolerance = {"loss": 1e-3, "gradient_norm": 1e-3}
    verdict = proof.prove_first_step(SPEC, INITIAL, read_after_a_step(0.5), oracle, tolerance)
    assert verdict.status == "unproven"
    assert "no tolerance in this precision for: 1 - cosine of the gradient" in verdict.reason


def test_every_precision_of_the_workload_is_judged_by_what_matters() -> None:
    for name in SPEC.precisions:
        assert set(REQUIRED) <= set(SPEC.tolerances[name]), name
        assert {"first_layer", "statistics", "losses"} <= set(SPEC.tolerances[name])
