"""The pieces of ResNet-50 in MLX that are its own: against MLX's modules and its gradients."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.workload import problem_of
from tests.unit.launch_settings import SETTINGS
from workloads.resnet50 import training_spec as spec

mx = pytest.importorskip("mlx.core", reason="mlx is not installed")

from mlx import nn  # noqa: E402 - needs mlx

from benchmarks.frameworks.mlx.adapter import Adapter  # noqa: E402 - needs mlx
from workloads.resnet50.mlx import network, training  # noqa: E402 - needs mlx

EPSILON = 1e-5
WORK = Work("resnet50_train", 1, "tiny", 2)


@pytest.fixture(scope="module")
def adapter():
    adapter = Adapter()
    device = mx.default_device()
    adapter.configure(dataclasses.replace(SETTINGS, precision="fp64"))
    yield adapter
    mx.set_default_device(device)


@pytest.fixture
def program(adapter):
    case = Case(WORK, Way("mlx", "eager", "fp32"), Place("cpu"))
    program = training.build(problem_of(case, spec.SPECS["resnet50_train"]), adapter)
    program.load(dict(spec.weights(WORK)))
    program.feed([spec.batch(WORK, index) for index in range(2)])
    return program


def plain_normalisation(x, scale, bias):
    """Batch normalisation whose gradient MLX finds."""
    mean, variance = x.mean((0, 1, 2)), mx.var(x, axis=(0, 1, 2))
    return (x - mean) / mx.sqrt(variance + EPSILON) * scale + bias


def test_batch_normalisation_and_its_gradient_are_the_definitions(adapter):
    generator = np.random.default_rng(0)
    x, dy = (adapter.put(generator.standard_normal((2, 4, 4, 3))) for _ in range(2))
    scale, bias = (adapter.put(generator.standard_normal(3)) for _ in range(2))
    own = training.batch_normalisation(EPSILON)
    y, mean, variance = own(x, scale, bias)
    np.testing.assert_allclose(y, plain_normalisation(x, scale, bias), rtol=0, atol=1e-13)
    np.testing.assert_allclose(mean, np.array(x).mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(variance, np.array(x).var((0, 1, 2)), rtol=1e-13)
    found = mx.grad(lambda *one: (own(*one)[0] * dy).sum(), argnums=(0, 1, 2))(x, scale, bias)
    expected = mx.grad(lambda *one: (plain_normalisation(*one) * dy).sum(), argnums=(0, 1, 2))(
        x, scale, bias
    )
    for own_gradient, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(own_gradient, right, rtol=0, atol=1e-12)


def test_batch_normalisation_computes_in_the_precision_of_its_parameters(adapter):
    x = adapter.put(np.random.default_rng(0).standard_normal((2, 4, 4, 3)) + 100)
    narrow, parameters = x.astype(mx.bfloat16), (mx.ones(3), mx.zeros(3))
    y, mean, variance = training.batch_normalisation(EPSILON)(narrow, *parameters)
    assert (y.dtype, mean.dtype, variance.dtype) == (mx.bfloat16, mx.float32, mx.float32)
    exact = np.array(narrow.astype(mx.float32)).var((0, 1, 2))
    np.testing.assert_allclose(variance, exact, rtol=1e-4)


@pytest.mark.parametrize("size", [6, 7, 8])
def test_max_pool_is_the_module_s(adapter, size):
    x = adapter.put(np.random.default_rng(0).random((2, size, size, 3)))
    dy = adapter.put(np.random.default_rng(1).random(network.max_pool(x).shape))
    right = nn.MaxPool2d(3, stride=2, padding=1)
    np.testing.assert_array_equal(network.max_pool(x), right(x))
    own_gradient, right_gradient = (
        mx.grad(lambda x, pool=pool: (pool(x) * dy).sum())(x) for pool in (network.max_pool, right)
    )
    np.testing.assert_allclose(own_gradient, right_gradient, rtol=1e-7)


def test_max_pool_s_gradient_goes_to_one_of_equal_maxima(adapter):
    gradient = mx.grad(lambda x: network.max_pool(x).sum())(mx.ones((1, 4, 4, 1)))
    assert set(np.unique(gradient)) <= {0.0, 1.0, 2.0, 4.0}
    assert np.array(gradient).sum() == 4


def test_rectifier_s_gradient_is_zero_at_zero(adapter):
    gradient = mx.grad(lambda x: network.relu(x).sum())(mx.array([-1.0, 0.0, 2.0]))
    assert np.array(gradient).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
def test_cross_entropy_and_its_gradient_have_the_precision_of_the_logits(adapter, dtype, tolerance):
    logits = np.random.default_rng(0).normal(scale=4, size=(5, 7))
    labels = np.arange(5, dtype=np.int32)
    exponentials = np.exp(logits)
    softmax = exponentials / exponentials.sum(-1, keepdims=True)
    expected = (softmax - np.eye(7)[labels]) / 5
    loss, gradient = mx.value_and_grad(training._cross_entropy)(
        adapter.put(logits.astype(dtype)), adapter.put(labels)
    )
    assert float(adapter.get(loss)) == pytest.approx(
        -np.log(softmax[np.arange(5), labels]).mean(), rel=tolerance
    )
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance)


def test_step_enqueues_the_loss_and_the_whole_state(program, monkeypatch):
    enqueued = []
    monkeypatch.setattr(training.mx, "async_eval", lambda *trees: enqueued.extend(trees))
    loss = program.step()
    arrays = {id(array) for group in enqueued[1] for array in group.values()}
    state = {id(array) for group in program._state for array in group.values()}
    assert enqueued[0] is loss
    assert arrays == state
    assert len(state) == len(dict(spec.weights(WORK))) + len(program._parameters)


def test_kernels_are_stored_as_mlx_takes_them(program):
    canonical = dict(spec.weights(WORK))["stem/conv/kernel"]
    own = program._parameters["stem/conv/kernel"]
    assert own.shape == (8, 7, 7, 3)
    np.testing.assert_array_equal(np.array(own)[5, 1, 2, 0], canonical[1, 2, 0, 5])


def test_inspecting_computes_no_step(program):
    before = {name: np.array(value) for name, value in program._parameters.items()}
    effective = program.inspect()
    assert (effective.gradients, effective.activations) == ("float32", "float32")
    assert all(np.array_equal(before[n], v) for n, v in program._parameters.items())
