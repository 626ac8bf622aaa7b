"""ResNet-50 in MLX, shared by training and inference: blocks, pooling, layouts.

Shapes: B batch, H height, W width, C channels in, D channels out. Images are BHWC, which MLX's
convolutions take; kernels are DHWC here and HWCD in canonical layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import mlx.core as mx
import numpy as np

from benchmarks.frameworks.mlx.adapter import Convolution, convolution
from workloads.resnet50 import network as resnet50

Convolve = Callable[[resnet50.Convolution, mx.array], mx.array]
"""Maps a convolution and its input BHWC to its normalised output BHWD."""


def convolutions(layers: resnet50.Network, *, device: str) -> dict[int, Convolution]:
    """The adapter's convolutions by their stride."""
    strides = {layer.stride for layer in layers.convolutions()}
    return {stride: convolution(device=device, stride=stride) for stride in strides}


def features(layers: resnet50.Network, images_BHWC: mx.array, convolve: Convolve) -> mx.array:
    """The dense layer's input, BC in the images' dtype: the average of the last block's output."""
    x_BHWC = max_pool(relu(convolve(layers.stem, images_BHWC)))
    for block in layers.blocks:
        x_BHWC = _bottleneck(block, x_BHWC, convolve)
    return x_BHWC.astype(wide(x_BHWC.dtype)).mean((1, 2)).astype(x_BHWC.dtype)


def _bottleneck(block: resnet50.Block, x_BHWC: mx.array, convolve: Convolve) -> mx.array:
    first, second, third = block.convolutions
    y_BHWD = relu(convolve(first, x_BHWC))
    y_BHWD = relu(convolve(second, y_BHWD))
    y_BHWD = convolve(third, y_BHWD)
    if block.projection is not None:
        x_BHWC = convolve(block.projection, x_BHWC)
    return relu(y_BHWD + x_BHWC)


def relu(x: mx.array) -> mx.array:
    """The rectifier; MLX compiles nn.relu even in eager execution."""
    return mx.maximum(x, 0)


def max_pool(x_BHWC: mx.array) -> mx.array:
    """Maximum over 3x3, stride 2, padded by 1, over rows and then over columns.

    Padding is zeros, because a rectifier's output is never below 0. nn.MaxPool2d's gradient
    scatters from every window, and takes three times as long on the CPU.
    """
    x_BHWC = mx.pad(x_BHWC, [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = x_BHWC.shape[1] - 2, x_BHWC.shape[2] - 2
    x_BHWC = _largest([x_BHWC[:, tap : tap + height : 2] for tap in range(3)])
    return _largest([x_BHWC[:, :, tap : tap + width : 2] for tap in range(3)])


def _largest(arrays: Sequence[mx.array]) -> mx.array:
    first, second, third = arrays
    return mx.maximum(mx.maximum(first, second), third)


def wide(dtype: Any) -> Any:
    """The dtype of means and logits: float32, or float64."""
    return mx.float64 if dtype == mx.float64 else mx.float32


def to_mlx_layout(array: np.ndarray) -> np.ndarray:
    """HWCD to DHWC; matrices and vectors unchanged."""
    return array.transpose(3, 0, 1, 2) if array.ndim == 4 else array
