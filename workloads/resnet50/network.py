"""ResNet-50 v1.5's layers, sizes and canonical weights: what training and inference share.

Source of the network: He et al., "Deep Residual Learning for Image Recognition" (2016), table 1,
but a downsampling block has its stride in the 3x3 convolution (v1.5, torchvision and MLPerf).
The README beside this file states the mathematics in full. NumPy and the contract only.

Shapes: B batch, H height, W width, C channels in, D channels out. Images are BHWC, kernels HWCD.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.case import Work

BATCH_NORM_EPSILON = 1e-5

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
"""`slice` is the beginning of `full`: it and `small` prove sizes that are too large for an oracle.
"""


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

    @property
    def num_multiply_adds(self) -> int:
        """Multiply-adds of convolutions and the dense layer for one image, forward."""
        head = self.head_channels * self.num_classes
        return head + sum(one.num_multiply_adds for one in self.convolutions())


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
    """Whether this is a running statistic, which is not a parameter and has no gradient."""
    return name.endswith(("/bn/mean", "/bn/variance"))


def weights(work: Work) -> Iterator[tuple[str, np.ndarray]]:
    """Canonical initial parameters and running statistics, float32, kernels HWCD, dense CD.

    Kernels are N(0, 2 / fan_out) (He et al. 2015). BN's scale and bias are drawn near 1 and 0
    instead of being set to them, so that a swapped or dropped scale or bias is detected. The scale
    of a block's last BN is drawn near 0.2: if 16 residual branches are as large as their inputs,
    rounding to bf16 alone changes the whole gradient by more than its norm, and looks like a
    fault (Goyal et al. 2017, section 5.1, set this scale to 0).
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
    values = generator(work, name).standard_normal(shape, dtype=np.float32)
    values *= np.float32(spread)
    values += np.float32(mean)
    return name, values


def generator(work: Work, name: str) -> np.random.Generator:
    """The random generator of the array of this name, independent of the order of drawing."""
    return np.random.Generator(np.random.PCG64([work.seed, zlib.crc32(name.encode())]))


def num_parameters(parameters: Mapping[str, int]) -> int:
    """Trainable parameters: 25,557,032 at full width."""
    layers = network(parameters)
    convolutions = sum(
        c.kernel_size**2 * c.in_channels * c.out_channels + 2 * c.out_channels
        for c in layers.convolutions()
    )
    return convolutions + (layers.head_channels + 1) * layers.num_classes
