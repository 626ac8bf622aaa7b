"""ResNet-50 v1.5 inference, as mathematics: weights, requests, folding, FLOP, tolerances.

The network is the one that is trained; its batch normalisation uses the running statistics. The
README beside this file defines a request. NumPy, the contract and the network only.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes, R requests of a batch.
Images are BHWC, kernels HWCD.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from benchmarks.contract.case import RECIPE, RECIPES, Case, Work
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.mistake import OtherConstant
from benchmarks.contract.precision import PRECISIONS
from benchmarks.contract.program import Arrays
from benchmarks.contract.task import NUM_REQUESTS, NUM_WITHHELD, Inference
from benchmarks.contract.workload import WorkloadSpec
from workloads.resnet50.network import (
    BATCH_NORM_EPSILON,
    SIZES,
    Convolution,
    generator,
    is_statistic,
    network,
    num_parameters,
)
from workloads.resnet50.network import weights as initial_weights
from workloads.resnet50.reference import (
    COARSE_DTYPES,
    MAX_SUSPECTED_FLOP,
    Forward,
    in_dtype,
    suspected_constants,
    suspected_logits,
)

HYPERPARAMETERS = {"batch_norm_epsilon": BATCH_NORM_EPSILON}

RECTIFIED_SQUARE = 0.5
"""Mean square of a rectifier's output if its input is N(0, 1)."""
STATISTICS_SPREAD = 0.3
"""Spread of the running statistics about their expected values: a dropped one changes the logits.
"""


def weights(work: Work) -> Iterator[tuple[str, np.ndarray]]:
    """Canonical parameters and running statistics, float32, kernels HWCD, dense CD.

    Parameters are those of training. The running statistics are drawn around the values that such
    parameters would lead to. With means of 0 and variances of 1, as before training, a program
    that ignores the statistics would pass, and so would one with nearly any epsilon.
    """
    layers = network(SIZES[work.size])
    convolutions = {conv.name: conv for conv in layers.convolutions()}
    for name, array in initial_weights(work):
        if is_statistic(name):
            conv = convolutions[name.rpartition("/bn/")[0]]
            yield name, _statistic(work, name, conv)
        else:
            yield name, array


def _statistic(work: Work, name: str, conv: Convolution) -> np.ndarray:
    square = 1.0 if conv.name == "stem/conv" else RECTIFIED_SQUARE
    variance = 2.0 * conv.in_channels / conv.out_channels * square
    drawn = generator(work, name).standard_normal(conv.out_channels) * STATISTICS_SPREAD
    value = drawn * math.sqrt(variance) if name.endswith("/mean") else variance * np.exp(drawn)
    return np.asarray(value, np.float32)


def batch(work: Work, index: int) -> dict[str, np.ndarray]:
    """The index-th request: `images` BHWC float32 ~ N(0, 1)."""
    size = SIZES[work.size]["image_size"]
    shape = (work.batch_size, size, size, 3)
    return {"images": generator(work, f"batch{index}").standard_normal(shape, dtype=np.float32)}


NUM_CALIBRATION_IMAGES = 16


def calibration_images(work: Work) -> np.ndarray:
    """Images that calibrate the ranges of activations for int8, BHWC; none is in a request."""
    size = SIZES[work.size]["image_size"]
    shape = (NUM_CALIBRATION_IMAGES, size, size, 3)
    return generator(work, "calibration").standard_normal(shape, dtype=np.float32)


def folded(arrays: Arrays, epsilon: float) -> Iterator[tuple[str, np.ndarray]]:
    """Kernels and biases that fold batch normalisation into the convolutions.

    `<convolution>/kernel` HWCD and `<convolution>/bias` D, `head/kernel` and `head/bias`, float64:
    y = (k * x - mean) * slope + bias with slope = scale / sqrt(variance + epsilon). They are
    computed once, before the first request, as in deployment (Jacob et al. 2018, section 3.2).
    """
    for name in arrays:
        if name.startswith("head/"):
            yield name, np.asarray(arrays[name], np.float64)
        elif name.endswith("/kernel"):
            conv = name.rpartition("/")[0]
            scale, bias, mean, variance = (
                np.asarray(arrays[f"{conv}/bn/{part}"], np.float64)
                for part in ("scale", "bias", "mean", "variance")
            )
            slope = scale / np.sqrt(variance + epsilon)
            yield name, np.asarray(arrays[name], np.float64) * slope
            yield f"{conv}/bias", bias - mean * slope


def flop_per_request(work: Work) -> int:
    """FLOP of the convolutions and the dense layer: 8.18 GFLOP an image at 224 px."""
    return work.batch_size * 2 * network(SIZES[work.size]).num_multiply_adds


FOOTPRINT_BYTES = 2**30
"""Memory of the framework itself."""


def num_weight_bytes(case: Case) -> int:
    """Bytes of the kernels in the case's precision."""
    layers = network(SIZES[case.work.size])
    num_weights = layers.head_channels * layers.num_classes + sum(
        conv.kernel_size**2 * conv.in_channels * conv.out_channels for conv in layers.convolutions()
    )
    return num_weights * PRECISIONS[case.way.precision].num_bytes


def memory_bytes(case: Case, _: Capabilities) -> int:
    """An upper estimate for one launch: weights, requests, activations, the framework itself.

    Weights count three times (canonical, folded, and packed by a session). All requests are on the
    device. At most four of the largest activations exist at the same time.
    """
    work = case.work
    parameters = SIZES[work.size]
    layers = network(parameters)
    bytes_per_value = {"fp64": 8}.get(case.way.precision, 4)
    image = parameters["image_size"] ** 2 * 3
    largest = max(conv.output_size**2 * conv.out_channels for conv in layers.convolutions())
    num_images = work.batch_size * (NUM_REQUESTS + NUM_WITHHELD)
    values = 3 * num_parameters(parameters) + num_images * image
    return (values + 4 * largest * work.batch_size) * bytes_per_value + FOOTPRINT_BYTES


def answer_error(answer: np.ndarray, read: Arrays) -> float:
    """Relative error of the logits that the client got, compared with these."""
    logits = np.asarray(read["logits"], np.float64)
    return float(np.linalg.norm(answer - logits) / np.linalg.norm(logits))


def known_mistakes(work: Work, arrays: Arrays, request: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """Descriptions of known mistakes, each with the logits RBV that it leads to."""
    if flop_per_request(work) > MAX_SUSPECTED_FLOP:
        return
    epsilon = HYPERPARAMETERS["batch_norm_epsilon"]
    layers, images = network(SIZES[work.size]), request["images"]
    for mistake, logits in suspected_logits(layers, arrays, images, epsilon=epsilon):
        yield mistake, logits[None]
    for dtype in COARSE_DTYPES:
        wrong = _folded_in(dtype, arrays, epsilon)
        yield (
            f"the folded weights are rounded to {dtype}",
            Forward(0.0).logits(layers, wrong, images)[None],
        )


def _folded_in(dtype: str, arrays: Arrays, epsilon: float) -> dict[str, np.ndarray]:
    """Arrays that compute as folded ones in this dtype do, by a normalisation that only adds."""
    found = {name: in_dtype(array, dtype) for name, array in folded(arrays, epsilon)}
    for name in [name.rpartition("/")[0] for name in arrays if name.endswith("/bn/scale")]:
        bias = found.pop(f"{name.rpartition('/')[0]}/bias")
        found[f"{name}/bias"] = bias
        found[f"{name}/mean"] = np.zeros_like(bias)
        found[f"{name}/scale"] = found[f"{name}/variance"] = np.ones_like(bias)
    return found


def other_constants(work: Work, arrays: Arrays, request: Arrays) -> Iterator[OtherConstant]:
    """Constants that may have another value."""
    if flop_per_request(work) <= MAX_SUSPECTED_FLOP:
        layers, epsilon = network(SIZES[work.size]), HYPERPARAMETERS["batch_norm_epsilon"]
        yield from suspected_constants(layers, arrays, request["images"], epsilon=epsilon)


TOLERANCES = {
    # One tolerance for each check of equivalence.answers; `timed` equals `logits_worst`. `loss` is
    # for work whose oracle cannot be computed.
    #
    # Every framework that has fp64 agrees with the oracle to 8e-16 (tiny).
    "fp64": {"logits": 1e-10, "logits_worst": 1e-10, "timed": 1e-10, "loss": 1e-10},
    # Four times the worst error of all frameworks and executions on a CPU, at tiny (seeds 0 to 2,
    # batches of 1 and 4), small and full: the error grows with the width. The loss: the worst
    # difference between any two of them at full. Errors on a GPU are not measured.
    "fp32": {
        "logits": 3.8e-6,  # worst 9.4e-7, LiteRT at small
        "logits_worst": 3.9e-6,  # 9.7e-7
        "timed": 3.9e-6,
        "loss": 2.6e-6,  # 6.5e-7
    },
    # Four times the worst error of PyTorch on a CPU with the operands of every convolution rounded
    # to TF32, at the same sizes. bf16 fails here: its error is at least 3.2e-3.
    "tf32": {
        "logits": 1.9e-3,  # worst 4.8e-4
        "logits_worst": 2.3e-3,  # 5.7e-4
        "timed": 2.3e-3,
        "loss": 6.4e-4,  # 1.6e-4
    },
    # The same with operands and results in float16 and accumulation in float32.
    "fp16": {
        "logits": 2.2e-3,  # worst 5.4e-4
        "logits_worst": 2.3e-3,  # 5.7e-4
        "timed": 2.3e-3,
        "loss": 8.8e-4,  # 2.2e-4
    },
    # As in fp32, but twice the worst error, so that int8 fails here: its error is at least 1.9e-2.
    # An epsilon of 1e-3 passes (its error is 7e-3). The loss: as in fp16, in bfloat16.
    "bf16": {
        "logits": 1.3e-2,  # worst 6.4e-3, TensorFlow at tiny; 4.7e-3 at full
        "logits_worst": 1.5e-2,  # 7.4e-3
        "timed": 1.5e-2,
        "loss": 7.6e-3,  # 1.9e-3
    },
    # Twice the worst error of the three engines: the stride of v1 (error 8.6e-2) fails.
    "int8": {
        "logits": 5.8e-2,  # worst 2.9e-2, LiteRT at small; 2.0e-2 at full
        "logits_worst": 6.6e-2,  # 3.3e-2
        "timed": 6.6e-2,
        "loss": 5.2e-2,  # four times 1.3e-2
    },
}

SPECS = {
    "resnet50_infer": WorkloadSpec(
        name="resnet50_infer",
        version=1,
        unit="request",
        sizes=SIZES,
        default_batch_size=dict.fromkeys(SIZES, 1),
        precisions=("fp32", "tf32", "bf16", "fp16", "fp64", "int8"),
        hyperparameters=HYPERPARAMETERS,
        weights=weights,
        batch=batch,
        items_per_step=lambda work: work.batch_size,
        flop_per_step=flop_per_request,
        flop_convention="convolutions and the dense layer, forward, 2 for a multiply-add",
        memory_bytes=memory_bytes,
        tolerances=TOLERANCES,
        way_options={RECIPE: RECIPES},
        proxies=("small", "full"),
        task=Inference(
            per_batch=lambda work: 1,
            answer_error=answer_error,
            known_mistakes=known_mistakes,
            other_constants=other_constants,
            num_weight_bytes=num_weight_bytes,
        ),
    ),
}
