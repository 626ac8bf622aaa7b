"""ResNet-50's forward pass in plain NumPy, right or with a mistake that is common in ports.

It runs in float64 and is slow: it explains wrong logits and is never timed. NumPy and the
workload's layers only.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from workloads.resnet50.network import Block, Convolution, Network

KERAS_EPSILON = 1e-3
"""Default of Keras's batch normalisation."""


@dataclass(frozen=True)
class Forward:
    """The forward pass, right by default; each field can put a mistake into it."""

    epsilon: float
    batch_statistics: bool = False
    """Training mode: normalise with the batch's own mean and variance."""
    unloaded_statistics: bool = False
    """Use means of 0 and variances of 1."""
    unloaded_means: bool = False
    """Use means of 0."""
    same_convolutions: bool = False
    """Pad a strided convolution on one side only, as SAME does."""
    same_pool: bool = False
    """Pad the max-pool on one side only, as SAME does."""
    strides_first: bool = False
    """Version 1: a block has its stride in the first 1x1 convolution."""

    def logits(
        self, layers: Network, arrays: Mapping[str, np.ndarray], images: np.ndarray
    ) -> np.ndarray:
        """The logits of BHWC images, BV."""
        x_BHWC = np.maximum(
            self._normalised(layers.stem, arrays, np.asarray(images, np.float64)), 0
        )
        x_BHWC = self._max_pooled(x_BHWC)
        for block in layers.blocks:
            x_BHWC = self._bottleneck(block, arrays, x_BHWC)
        x_BC = x_BHWC.mean((1, 2))
        return np.asarray(x_BC @ arrays["head/kernel"] + arrays["head/bias"])

    def _bottleneck(
        self, block: Block, arrays: Mapping[str, np.ndarray], x_BHWC: np.ndarray
    ) -> np.ndarray:
        first, second, third = block.convolutions
        if self.strides_first:
            first, second = replace(first, stride=second.stride), replace(second, stride=1)
        y_BHWC = np.maximum(self._normalised(first, arrays, x_BHWC), 0)
        y_BHWC = np.maximum(self._normalised(second, arrays, y_BHWC), 0)
        y_BHWC = self._normalised(third, arrays, y_BHWC)
        if block.projection is not None:
            x_BHWC = self._normalised(block.projection, arrays, x_BHWC)
        return np.asarray(np.maximum(y_BHWC + x_BHWC, 0))

    def _normalised(
        self, conv: Convolution, arrays: Mapping[str, np.ndarray], x_BHWC: np.ndarray
    ) -> np.ndarray:
        """The convolution and its batch normalisation, BHWD."""
        kernel_HWCD = np.asarray(arrays[f"{conv.name}/kernel"], np.float64)
        y_BHWD = self._convolved(x_BHWC, kernel_HWCD, conv.stride)
        scale, bias, mean, variance = (
            np.asarray(arrays[f"{conv.name}/bn/{part}"], np.float64)
            for part in ("scale", "bias", "mean", "variance")
        )
        if self.batch_statistics:
            mean, variance = y_BHWD.mean((0, 1, 2)), y_BHWD.var((0, 1, 2))
        if self.unloaded_statistics or self.unloaded_means:
            mean = np.zeros_like(mean)
        if self.unloaded_statistics:
            variance = np.ones_like(variance)
        return (y_BHWD - mean) * (scale / np.sqrt(variance + self.epsilon)) + bias

    def _convolved(self, x_BHWC: np.ndarray, kernel_HWCD: np.ndarray, stride: int) -> np.ndarray:
        size, _, channels, num_outputs = kernel_HWCD.shape
        padded = _padded(x_BHWC, size, stride, is_same=self.same_convolutions)
        windows = _windows(padded, size, stride)  # BHWCKK
        flat = windows.transpose(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], -1)
        return np.asarray(flat @ kernel_HWCD.reshape(size * size * channels, num_outputs))

    def _max_pooled(self, x_BHWC: np.ndarray) -> np.ndarray:
        """The maximum over 3x3, stride 2, padded by 1."""
        padded = _padded(x_BHWC, 3, 2, is_same=self.same_pool)
        return np.asarray(_windows(padded, 3, 2).max((-2, -1)))


def _padded(x_BHWC: np.ndarray, size: int, stride: int, *, is_same: bool) -> np.ndarray:
    before = after = (size - 1) // 2
    if is_same and stride > 1:
        height = x_BHWC.shape[1]
        total = max(0, (-(-height // stride) - 1) * stride + size - height)
        before, after = total // 2, total - total // 2
    return np.pad(x_BHWC, ((0, 0), (before, after), (before, after), (0, 0)))


def _windows(x_BHWC: np.ndarray, size: int, stride: int) -> np.ndarray:
    """The window of inputs of each output, BHWCKK."""
    windows = np.lib.stride_tricks.sliding_window_view(x_BHWC, (size, size), axis=(1, 2))
    return windows[:, ::stride, ::stride]


def suspected_logits(
    layers: Network, arrays: Mapping[str, np.ndarray], images: np.ndarray, *, epsilon: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Descriptions of known mistakes, each with the logits BV that it leads to."""
    right = Forward(epsilon)
    for mistake, wrong in (
        (
            "batch normalisation in training mode: it takes the batch's statistics, not the"
            " running ones",
            replace(right, batch_statistics=True),
        ),
        (
            "the running statistics are not loaded: means of 0, variances of 1",
            replace(right, unloaded_statistics=True),
        ),
        (
            "the running means are not loaded: means of 0",
            replace(right, unloaded_means=True),
        ),
        (
            "padding: SAME pads a strided window on one side",
            replace(right, same_convolutions=True, same_pool=True),
        ),
        (
            "padding: SAME pads a strided window on one side, of the convolutions alone",
            replace(right, same_convolutions=True),
        ),
        (
            "padding: SAME pads a strided window on one side, of the max-pool alone",
            replace(right, same_pool=True),
        ),
        (
            "the stride of a block is in its first 1x1 convolution (v1), not in the 3x3 (v1.5)",
            replace(right, strides_first=True),
        ),
        (
            f"epsilon of batch normalisation: {KERAS_EPSILON:g} in place of {epsilon:g}",
            replace(right, epsilon=KERAS_EPSILON),
        ),
    ):
        yield mistake, wrong.logits(layers, arrays, images)
    yield "the images' channels are reversed", right.logits(layers, arrays, images[..., ::-1])
