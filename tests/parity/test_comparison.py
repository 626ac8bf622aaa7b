"""The comparison with the reference catches each fault that is planted here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.contract.case import Work
from tests.parity.comparison import LIMITS, failures
from workloads.resnet50 import spec

WORK = Work("resnet50_train", 1, "tiny", 8)
STABLE = frozenset({"head/kernel", "head/bias"})


@pytest.fixture(scope="module")
def initial():
    return dict(spec.weights(WORK))


@pytest.fixture
def reference(initial):
    """A step with made-up gradients: what is compared does not ask where they come from."""
    generator = np.random.default_rng(0)
    read = {"loss": np.asarray(7.0)}
    for name, weight in initial.items():
        gradient = generator.standard_normal(weight.shape)
        if spec.is_statistic(name):
            read[f"statistics/{name}"] = weight + 0.1 * gradient
            continue
        momentum = gradient + 1e-4 * weight if spec.is_decayed(name) else gradient
        read[f"optimizer/{name}"] = momentum
        read[f"weights/{name}"] = weight - 0.01 * momentum
    return read


def _failures(read, reference, initial, precision):
    return failures(
        read,
        reference,
        initial=initial,
        spec=spec.SPECS["resnet50_train"],
        stable=STABLE,
        limits=LIMITS[precision],
    )


def _loss_off(read):
    read["loss"] = read["loss"] * 1.05


def _gradient_halved(read):
    for name in read:
        if name.startswith("optimizer/"):
            read[name] = read[name] / 2


def _head_sign_flipped(read):
    read["optimizer/head/kernel"] = -read["optimizer/head/kernel"]


def _learning_rate_doubled(read):
    for name in read:
        if name.startswith("weights/"):
            read[name] = read[name] - 0.01 * read[name.replace("weights", "optimizer", 1)]


def _statistics_not_updated(read):
    for name in read:
        if name.startswith("statistics/"):
            read[name] = np.full_like(read[name], float(name.endswith("variance")))


def _array_missing(read):
    del read["weights/head/bias"]


def _kernel_transposed(read):
    read["weights/stem/conv/kernel"] = read["weights/stem/conv/kernel"].transpose(3, 2, 0, 1)


def _loss_not_a_number(read):
    read["loss"] = np.asarray(np.nan)


def _gradient_not_finite(read):
    read["optimizer/head/kernel"] = np.full_like(read["optimizer/head/kernel"], np.inf)


FAULTS = (
    _loss_off,
    _gradient_halved,
    _head_sign_flipped,
    _learning_rate_doubled,
    _statistics_not_updated,
    _array_missing,
    _kernel_transposed,
    _loss_not_a_number,
    _gradient_not_finite,
)


@pytest.mark.parametrize("precision", sorted(LIMITS))
def test_accepts_what_equals_the_reference(reference, initial, precision):
    assert _failures(dict(reference), reference, initial, precision) == []


@pytest.mark.parametrize("precision", sorted(LIMITS))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_catches_a_planted_fault(reference, initial, fault, precision):
    read = dict(reference)
    fault(read)
    assert _failures(read, reference, initial, precision) != []


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_catches_swapped_gradients_of_scale_and_bias(reference, initial, precision):
    read = dict(reference)
    scale, bias = "optimizer/stem/conv/bn/scale", "optimizer/stem/conv/bn/bias"
    kernels = [name for name in read if name.startswith("optimizer/") and read[name].ndim > 1]
    for name in kernels:  # leave the vectors: in the whole gradient they would not show
        reference[name] = read[name] = np.zeros_like(read[name])
    read[scale], read[bias] = read[bias], read[scale]
    assert _failures(read, reference, initial, precision) != []


def test_fp64_catches_biased_running_variance(reference, initial):
    read = dict(reference)
    name = "statistics/stage4/block3/conv3/bn/variance"
    num_samples = 8 * 2 * 2
    read[name] = 0.9 + (read[name] - 0.9) * (num_samples - 1) / num_samples
    assert _failures(read, reference, initial, "fp64") != []
