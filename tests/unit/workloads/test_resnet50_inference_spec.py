"""ResNet-50's requests: weights that tell mistakes, exact folding, known mistakes that differ."""

import numpy as np
import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.task import NUM_REQUESTS, WITHHELD
from benchmarks.planning.catalog import discover
from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50
from workloads.resnet50.reference import Forward, suspected_logits

WORK = Work("resnet50_infer", 1, "tiny", 2)
ARRAYS = dict(spec.weights(WORK))
LAYERS = resnet50.network(spec.SIZES["tiny"])
EPSILON = spec.HYPERPARAMETERS["batch_norm_epsilon"]
IMAGES = spec.batch(WORK, 64)["images"]
SPEC = spec.SPECS["resnet50_infer"]


@pytest.fixture(scope="module")
def right():
    return Forward(EPSILON).logits(LAYERS, ARRAYS, IMAGES)


def distance(own, other):
    return np.linalg.norm(own - other) / np.linalg.norm(other)


def test_the_flop_of_an_image_are_the_published_ones():
    full = Work("resnet50_infer", 1, "full", 1)
    assert spec.flop_per_request(full) == pytest.approx(2 * 4.089e9, rel=1e-3)
    assert spec.flop_per_request(Work("resnet50_infer", 1, "full", 8)) == 8 * (
        spec.flop_per_request(full)
    )


def test_the_weights_take_their_bytes():
    case = Case(Work("resnet50_infer", 1, "full", 1), Way("jax", "graph", "fp32"), Place("cpu"))
    capabilities = discover().frameworks["jax"].capabilities
    assert spec.num_weight_bytes(case) == pytest.approx(102e6, rel=0.01)
    assert SPEC.memory_bytes(case, capabilities) > 3 * spec.num_weight_bytes(case)


def test_parameters_are_those_of_training():
    training = dict(resnet50.weights(Work("resnet50_train", 1, "tiny", 2)))
    assert set(training) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(array, training[name]) != resnet50.is_statistic(name)


def test_requests_are_distinct_and_the_same_each_time():
    seen = {spec.batch(WORK, index)["images"].tobytes() for index in range(SPEC.task.num_batches)}
    assert len(seen) == SPEC.task.num_batches == NUM_REQUESTS + len(WITHHELD)
    assert np.array_equal(spec.batch(WORK, 64)["images"], IMAGES)


def test_logits_are_of_the_order_of_one(right):
    assert 0.1 < right.std() < 10


def test_folded_weights_compute_the_same(right):
    """Each convolution with its bias, by a forward pass whose normalisation changes nothing."""
    folded = dict(spec.folded(ARRAYS, EPSILON))
    plain = {**folded}
    for conv in LAYERS.convolutions():
        bias = folded[f"{conv.name}/bias"]
        for part, value in (("scale", 1.0), ("mean", 0.0), ("variance", 1.0)):
            plain[f"{conv.name}/bn/{part}"] = np.full_like(bias, value)
        plain[f"{conv.name}/bn/bias"] = bias
    assert distance(Forward(0.0).logits(LAYERS, plain, IMAGES), right) < 1e-12


def test_every_suspect_is_far_from_right_and_from_the_others(right):
    found = dict(suspected_logits(LAYERS, ARRAYS, IMAGES, epsilon=EPSILON))
    limit = max(one["logits"] for name, one in SPEC.tolerances.items() if name == "fp32")
    for mistake, wrong in found.items():
        assert distance(wrong, right) > 10 * limit, mistake
        others = [distance(other, wrong) for name, other in found.items() if name != mistake]
        assert min(others) > 5 * limit, mistake


def test_the_known_mistakes_of_the_spec_are_in_all_requests_of_a_batch():
    mistake, logits = next(SPEC.task.known_mistakes(WORK, ARRAYS, {"images": IMAGES}))
    assert "training mode" in mistake
    assert logits.shape == (1, 2, 1000)


def test_an_answer_is_the_logits():
    logits = np.ones((2, 3))
    assert spec.answer_error(logits, {"logits": logits}) == 0.0
    assert spec.answer_error(1.5 * logits, {"logits": logits}) == pytest.approx(0.5)
