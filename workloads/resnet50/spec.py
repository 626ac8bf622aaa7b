"""ResNet-50 v1.5 as mathematics: layers, canonical weights and batches, FLOP, tolerances.

Source of the network: He et al., "Deep Residual Learning for Image Recognition" (2016), table 1,
with the stride of a downsampling block in its 3x3 convolution (v1.5, torchvision and MLPerf).
The README beside this file states the mathematics in full. NumPy and the contract only.

Shapes: B batch, H height, W width, C channels in, D channels out. Images are BHWC, kernels HWCD.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.case import Case, Work
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.program import Arrays
from benchmarks.contract.workload import WorkloadSpec

BLOCKS_PER_STAGE = (3, 4, 6, 3)
EXPANSION = 4
"""Output channels of a bottleneck block over the channels of its 3x3 convolution."""

RESIDUAL_SCALE = 0.2
"""Mean of the initial scale of each block's last batch normalisation."""

SIZES: Mapping[str, Mapping[str, int]] = {
    "tiny": {"image_size": 64, "width": 8, "num_stages": 4, "num_classes": 1000},
    "small": {"image_size": 64, "width": 64, "num_stages": 4, "num_classes": 1000},
    "slice": {"image_size": 224, "width": 64, "num_stages": 2, "num_classes": 1000},
    "full": {"image_size": 224, "width": 64, "num_stages": 4, "num_classes": 1000},
}
"""`slice` is the beginning of `full`: with `small` it proves what is too large for an oracle."""

HYPERPARAMETERS = {
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "batch_norm_epsilon": 1e-5,
    "batch_norm_momentum": 0.1,
}
"""`batch_norm_momentum` is the weight of the new batch in the running statistics."""

TRAJECTORY = {"learning_rate": 1e-4}
"""For the ten steps that are followed. At 0.01 a change of 1e-7 in the weights, as fp32's rounding
makes, has grown to 8e-3 in the loss of step 10 (tiny, batch 8); at 1e-4 to 1e-5."""


@dataclass(frozen=True)
class Convolution:
    """One convolution, without bias, explicitly padded by (kernel_size - 1) // 2 on each side."""

    name: str
    """Canonical prefix: the kernel is `<name>/kernel`, its batch normalisation `<name>/bn/...`."""
    kernel_size: int
    in_channels: int
    out_channels: int
    stride: int
    input_size: int
    """Height and width of the input, before padding."""

    @property
    def output_size(self) -> int:
        """Height and width of the output."""
        return (self.input_size - 1) // self.stride + 1

    @property
    def num_multiply_adds(self) -> int:
        """Multiply-adds for one image, forward."""
        taps = self.kernel_size**2 * self.in_channels * self.out_channels
        return taps * self.output_size**2


@dataclass(frozen=True)
class Block:
    """A bottleneck: 1x1, 3x3 (strided), 1x1, added to the input or to its 1x1 projection."""

    convolutions: tuple[Convolution, Convolution, Convolution]
    projection: Convolution | None


@dataclass(frozen=True)
class Network:
    """The layers in the order of the forward pass."""

    stem: Convolution
    blocks: tuple[Block, ...]
    head_channels: int
    num_classes: int

    def convolutions(self) -> Iterator[Convolution]:
        """Every convolution, in the canonical order of the parameters."""
        yield self.stem
        for block in self.blocks:
            yield from block.convolutions
            if block.projection is not None:
                yield block.projection


def network(parameters: Mapping[str, int]) -> Network:
    """The layers of one size."""
    width, image_size = parameters["width"], parameters["image_size"]
    stem = Convolution("stem/conv", 7, 3, width, 2, image_size)
    size = (stem.output_size - 1) // 2 + 1  # the max-pool: 3x3, stride 2, padded by 1
    blocks = []
    channels = width
    for stage, num_blocks in enumerate(BLOCKS_PER_STAGE[: parameters["num_stages"]]):
        for index in range(num_blocks):
            stride = 2 if stage > 0 and index == 0 else 1
            inner = width * 2**stage
            prefix = f"stage{stage + 1}/block{index + 1}"
            block = _block(prefix, channels, inner, stride, size)
            blocks.append(block)
            channels, size = inner * EXPANSION, block.convolutions[2].output_size
    return Network(stem, tuple(blocks), channels, parameters["num_classes"])


def _block(prefix: str, channels: int, inner: int, stride: int, size: int) -> Block:
    outer = inner * EXPANSION
    first = Convolution(f"{prefix}/conv1", 1, channels, inner, 1, size)
    second = Convolution(f"{prefix}/conv2", 3, inner, inner, stride, size)
    third = Convolution(f"{prefix}/conv3", 1, inner, outer, 1, second.output_size)
    projection = None
    if stride != 1 or channels != outer:
        projection = Convolution(f"{prefix}/projection", 1, channels, outer, stride, size)
    return Block((first, second, third), projection)


def is_decayed(name: str) -> bool:
    """Whether weight decay applies: to kernels only, never to BN's scale and bias or to biases."""
    return name.endswith("/kernel")


def is_statistic(name: str) -> bool:
    """Whether this is a running statistic, which is no parameter and has no gradient."""
    return name.endswith(("/bn/mean", "/bn/variance"))


def weights(work: Work) -> Iterator[tuple[str, np.ndarray]]:
    """Canonical initial parameters and running statistics, float32, kernels HWCD, dense CD.

    Kernels are N(0, 2 / fan_out) (He et al. 2015). BN's scale and bias are drawn near 1 and 0
    instead of being set to them, so that a scale and a bias that are swapped or dropped show. The
    scale of a block's last BN is drawn near 0.2: with 16 residual branches as large as what they
    are added to, rounding to bf16 alone changes the whole gradient by more than its own norm, and
    no reduced precision could be told from a fault (Goyal et al. 2017, section 5.1, set it to 0).
    """
    layers = network(SIZES[work.size])
    for conv in layers.convolutions():
        k, c, d = conv.kernel_size, conv.in_channels, conv.out_channels
        spread = math.sqrt(2.0 / (k * k * d))
        yield _normal(work, f"{conv.name}/kernel", (k, k, c, d), 0.0, spread)
        scale = RESIDUAL_SCALE if conv.name.endswith("/conv3") else 1.0
        yield _normal(work, f"{conv.name}/bn/scale", (d,), scale, 0.1 * scale)
        yield _normal(work, f"{conv.name}/bn/bias", (d,), 0.0, 0.1)
        yield f"{conv.name}/bn/mean", np.zeros((d,), np.float32)
        yield f"{conv.name}/bn/variance", np.ones((d,), np.float32)
    c, d = layers.head_channels, layers.num_classes
    yield _normal(work, "head/kernel", (c, d), 0.0, 1.0 / math.sqrt(c))
    yield _normal(work, "head/bias", (d,), 0.0, 0.01)


def _normal(
    work: Work, name: str, shape: tuple[int, ...], mean: float, spread: float
) -> tuple[str, np.ndarray]:
    values = _generator(work, name).standard_normal(shape, dtype=np.float32)
    values *= np.float32(spread)
    values += np.float32(mean)
    return name, values


def _generator(work: Work, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([work.seed, zlib.crc32(name.encode())]))


def batch(work: Work, index: int) -> dict[str, np.ndarray]:
    """The index-th batch: `images` BHWC float32 ~ N(0, 1), `labels` B int32, uniform."""
    parameters = SIZES[work.size]
    size = parameters["image_size"]
    generator = _generator(work, f"batch{index}")
    images = generator.standard_normal((work.batch_size, size, size, 3), dtype=np.float32)
    labels = generator.integers(0, parameters["num_classes"], work.batch_size, dtype=np.int32)
    return {"images": images, "labels": labels}


def gradients(initial: Arrays, read: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """The gradient of each parameter at step 1: the momentum buffer less the decayed weight."""
    decay = HYPERPARAMETERS["weight_decay"]
    for name, weight in initial.items():
        if is_statistic(name):
            continue
        buffer = read[f"optimizer/{name}"]
        if is_decayed(name):
            buffer = buffer - decay * np.asarray(weight, np.float64)
        yield name, buffer


def num_parameters(parameters: Mapping[str, int]) -> int:
    """Trainable parameters: 25,557,032 at full width."""
    layers = network(parameters)
    convolutions = sum(
        c.kernel_size**2 * c.in_channels * c.out_channels + 2 * c.out_channels
        for c in layers.convolutions()
    )
    return convolutions + (layers.head_channels + 1) * layers.num_classes


def train_flop_per_image(parameters: Mapping[str, int]) -> int:
    """FLOP of forward, input gradient and weight gradient of convolutions and the dense layer.

    The stem's input gradient is not needed and not counted: 24.3 GFLOP at 224 px.
    """
    layers = network(parameters)
    head = layers.head_channels * layers.num_classes
    forward = head + sum(c.num_multiply_adds for c in layers.convolutions())
    return 2 * (3 * forward - layers.stem.num_multiply_adds)


def train_memory_bytes(case: Case, _: Capabilities) -> int:
    """An upper estimate for one launch: states, activations and the framework's own footprint.

    Weights, gradients, momentum and one copy for updates, in fp32; four values in the compute
    precision for each output of a convolution (its output, normalised or rectified, and their
    gradients while they live); 1 GiB for the rest.
    """
    work = case.work
    parameters = SIZES[work.size]
    outputs = sum(c.output_size**2 * c.out_channels for c in network(parameters).convolutions())
    states = 4 * 4 * num_parameters(parameters)
    bytes_per_value = {"bf16": 2, "fp16": 2, "fp64": 8}.get(case.way.precision, 4)
    return states + 4 * bytes_per_value * outputs * work.batch_size + 2**30


TOLERANCES = {
    # By check of equivalence.checks, each the largest error that passes. A check that a precision
    # leaves out is shown and not judged: its figure would be above 1, which says nothing.
    #
    # fp64 is where mistakes are told from rounding: PyTorch, TensorFlow, JAX and MLX agree with the
    # oracle to 4e-14 in each of these, Keras on TensorFlow to 2e-10 (tiny, batch 4, seed 0).
    "fp64": {
        "loss": 1e-10,
        "first_layer": 1e-10,
        "statistics": 1e-9,
        "decay": 1e-9,
        "gradient": 1e-9,
        "cosine": 1e-9,
        "gradient_norm": 1e-9,
        "gradient_tensor": 1e-9,
        "stable_gradient": 1e-9,
        "update": 1e-9,
        "update_norm": 1e-9,
        "losses": 1e-10,
        "momentum": 1e-9,
    },
    # Four times the worst error of 81 proofs of what passes in fp64: tiny, batch 4, seeds 0 to 4, a
    # part of them at batch 8, and small, batch 4, seed 0. The gradient's is some rectifier that
    # flips: its median is 5e-6. The losses' and the momentum's are one that flips in small.
    "fp32": {
        "loss": 1.9e-6,  # worst 4.7e-7, on another batch
        "first_layer": 1.8e-5,  # 4.3e-6
        "statistics": 1.3e-5,  # 3.3e-6
        "decay": 1.4e-7,  # 3.5e-8, of 15
        "gradient": 7.1e-2,  # 1.8e-2
        "cosine": 6.2e-4,  # 1.6e-4
        "gradient_norm": 2.6e-3,  # 6.4e-4
        "gradient_tensor": 0.35,  # 8.8e-2
        "stable_gradient": 2.3e-5,  # 5.7e-6
        "update": 7.1e-2,  # 1.8e-2
        "update_norm": 2.6e-3,  # that of the gradient
        "losses": 1.1e-3,  # 2.7e-4
        "momentum": 0.45,  # 0.11
    },
    # The same without small, 62; the whole gradient is off by 44 % and is judged by its length and
    # direction.
    "bf16": {
        "loss": 1.0e-2,  # worst 2.5e-3
        "first_layer": 6.8e-3,  # 1.7e-3
        "statistics": 6.0e-2,  # 1.5e-2
        "cosine": 0.40,  # 9.9e-2
        "gradient_norm": 0.19,  # 4.8e-2
        "stable_gradient": 0.11,  # 2.6e-2
        "update_norm": 0.19,  # that of the gradient
        "losses": 1.8e-2,  # 4.4e-3
    },
    # Four times the worst of 15 proofs on a CPU with the operands of every convolution rounded as
    # TF32 does (tests/parity/planted_resnet50): PyTorch eager and compiled, JAX; tiny, batch 4,
    # seeds 0 to 4.
    "tf32": {
        "loss": 5.0e-4,  # worst 1.2e-4
        "first_layer": 7.6e-4,  # 1.9e-4
        "statistics": 5.8e-3,  # 1.5e-3
        "gradient": 0.58,  # 0.15
        "cosine": 4.2e-2,  # 1.0e-2
        "gradient_norm": 4.9e-2,  # 1.2e-2
        "stable_gradient": 9.3e-3,  # 2.3e-3
        "update": 0.58,  # 0.15
        "update_norm": 4.9e-2,  # 1.2e-2
        "losses": 2.2e-3,  # 5.5e-4
        "momentum": 0.64,  # 0.16
    },
    # Not measured: an eighth of bf16's, whose roundoff is eight times as large, where an error
    # follows it; the gradient's follows the number of rectifiers that flip, with the root of the
    # roundoff.
    "fp16": {
        "loss": 1.3e-3,
        "first_layer": 8.5e-4,
        "statistics": 7.5e-3,
        "cosine": 5.0e-2,
        "gradient_norm": 6.7e-2,
        "stable_gradient": 1.4e-2,
        "update_norm": 6.7e-2,
        "losses": 2.3e-3,
    },
}

SPECS = {
    "resnet50_train": WorkloadSpec(
        name="resnet50_train",
        version=1,
        unit="image",
        sizes=SIZES,
        default_batch_size={"tiny": 4, "small": 4, "slice": 4, "full": 256},
        precisions=("fp32", "tf32", "bf16", "fp16", "fp64"),
        hyperparameters=HYPERPARAMETERS,
        weights=weights,
        batch=batch,
        items_per_step=lambda work: work.batch_size,
        flop_per_step=lambda work: work.batch_size * train_flop_per_image(SIZES[work.size]),
        flop_convention=(
            "convolutions and the dense layer, forward and both gradients, 2 for a multiply-add"
        ),
        memory_bytes=train_memory_bytes,
        gradients=gradients,
        tolerances=TOLERANCES,
        trajectory=TRAJECTORY,
        proxies=("small", "slice"),
        stable_gradients=("head/kernel", "head/bias"),
    ),
}
