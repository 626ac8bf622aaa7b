"""ResNet-50's forward pass in plain NumPy, right or with a mistake that is common in ports.

It runs in float64 and is slow: it explains wrong logits and is never timed. NumPy and the
workload's layers only.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.contract.mistake import OtherConstant, Outcome, rounded
from workloads.resnet50.network import Block, Convolution, Network

KERAS_EPSILON = 1e-3
"""Default of Keras's batch normalisation."""
EPSILONS = (KERAS_EPSILON, 1e-6)
"""Other epsilons of batch normalisation that are common."""
COARSE_DTYPES = ("float16", "bfloat16")
IMAGE_STEPS = (1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128)
"""Steps to which images may have been rounded on their way through 8-bit integers."""
MAX_SUSPECTED_FLOP = 5e10
"""No mistake is computed if a step or request takes more FLOP: one in NumPy would take seconds."""


def in_dtype(array: np.ndarray, name: str) -> np.ndarray:
    """The values rounded to this dtype, as float64."""
    if name == "bfloat16":  # NumPy lacks it
        return rounded(array, 8)
    return np.asarray(np.asarray(array).astype(name), np.float64)


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
    rectifies_last: bool = True
    """Whether the last block ends in a rectifier."""
    rectifies_sums: bool = True
    """Whether any block ends in a rectifier."""
    operand_bits: int | None = None
    """Significant bits to which the operands of every convolution are rounded; None: all kept."""

    def logits(
        self, layers: Network, arrays: Mapping[str, np.ndarray], images: np.ndarray
    ) -> np.ndarray:
        """The logits of BHWC images, BV."""
        x_BC = self.features(layers, arrays, images)
        return np.asarray(x_BC @ arrays["head/kernel"] + arrays["head/bias"])

    def features(
        self, layers: Network, arrays: Mapping[str, np.ndarray], images: np.ndarray
    ) -> np.ndarray:
        """The input of the dense layer, BC, from BHWC images."""
        x_BHWC = np.maximum(
            self._normalised(layers.stem, arrays, np.asarray(images, np.float64)), 0
        )
        x_BHWC = self._max_pooled(x_BHWC)
        for index, block in enumerate(layers.blocks, 1):
            x_BHWC = self._bottleneck(block, arrays, x_BHWC)
            is_last = index == len(layers.blocks)
            if self.rectifies_sums and (self.rectifies_last or not is_last):
                x_BHWC = np.maximum(x_BHWC, 0)
        return np.asarray(x_BHWC.mean((1, 2)))

    def _bottleneck(
        self, block: Block, arrays: Mapping[str, np.ndarray], x_BHWC: np.ndarray
    ) -> np.ndarray:
        """The sum of a block's convolutions and its shortcut, before the rectifier."""
        first, second, third = block.convolutions
        if self.strides_first:
            first, second = replace(first, stride=second.stride), replace(second, stride=1)
        y_BHWC = np.maximum(self._normalised(first, arrays, x_BHWC), 0)
        y_BHWC = np.maximum(self._normalised(second, arrays, y_BHWC), 0)
        y_BHWC = self._normalised(third, arrays, y_BHWC)
        if block.projection is not None:
            x_BHWC = self._normalised(block.projection, arrays, x_BHWC)
        return np.asarray(y_BHWC + x_BHWC)

    def _normalised(
        self, conv: Convolution, arrays: Mapping[str, np.ndarray], x_BHWC: np.ndarray
    ) -> np.ndarray:
        """The convolution and its batch normalisation, BHWD."""
        y_BHWD = self.convolved(conv, arrays, x_BHWC)
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

    def convolved(
        self, conv: Convolution, arrays: Mapping[str, np.ndarray], x_BHWC: np.ndarray
    ) -> np.ndarray:
        """The convolution alone, BHWD."""
        kernel_HWCD = np.asarray(arrays[f"{conv.name}/kernel"], np.float64)
        if self.operand_bits is not None:
            x_BHWC = rounded(x_BHWC, self.operand_bits)
            kernel_HWCD = rounded(kernel_HWCD, self.operand_bits)
        return self._convolved(x_BHWC, kernel_HWCD, conv.stride)

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


def suspected_passes(epsilon: float) -> Iterator[tuple[str, Forward]]:
    """Descriptions of mistakes that training and inference share, each with its forward pass."""
    right = Forward(epsilon)
    yield (
        "padding: SAME pads a strided window on one side",
        replace(right, same_convolutions=True, same_pool=True),
    )
    yield (
        "padding: SAME pads a strided window on one side, of the convolutions alone",
        replace(right, same_convolutions=True),
    )
    yield (
        "padding: SAME pads a strided window on one side, of the max-pool alone",
        replace(right, same_pool=True),
    )
    yield (
        "the stride of a block is in its first 1x1 convolution (v1), not in the 3x3 (v1.5)",
        replace(right, strides_first=True),
    )
    yield "the last block's rectifier is missing", replace(right, rectifies_last=False)
    yield "the rectifier after each block's sum is missing", replace(right, rectifies_sums=False)
    for bits, like in ((11, "TF32"), (8, "bfloat16")):
        yield (
            f"the program rounds the operands of every convolution to {bits} significant bits, as"
            f" {like} does",
            replace(right, operand_bits=bits),
        )


def suspected_images(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Descriptions of mistakes in the images, each with the images that it leads to."""
    yield "the images' channels are reversed", images[..., ::-1]
    for dtype in COARSE_DTYPES:
        yield f"the images are rounded to {dtype}", in_dtype(images, dtype)
    for step in IMAGE_STEPS:
        yield (
            f"the images are rounded to multiples of 1/{1 / step:.0f}",
            np.round(np.asarray(images, np.float64) / step) * step,
        )


def suspected_weights(
    arrays: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Descriptions of mistakes in the weights, each with all arrays."""
    for dtype in COARSE_DTYPES:
        whole = {name: in_dtype(array, dtype) for name, array in arrays.items()}
        kernels = {name: whole[name] for name in arrays if name.endswith("/kernel")}
        yield f"the weights are rounded to {dtype}", whole
        yield f"the kernels are rounded to {dtype}", {**arrays, **kernels}


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
        *suspected_passes(epsilon),
    ):
        yield mistake, wrong.logits(layers, arrays, images)
    for mistake, changed in suspected_images(images):
        yield mistake, right.logits(layers, arrays, changed)
    for mistake, weights in suspected_weights(arrays):
        yield mistake, right.logits(layers, weights, images)


def suspected_constants(
    layers: Network, arrays: Mapping[str, np.ndarray], images: np.ndarray, *, epsilon: float
) -> Iterator[OtherConstant]:
    """The constants of inference that may have another value."""

    def answered(how: Forward, factor: float = 1.0) -> Outcome:
        return {"logits": how.logits(layers, arrays, factor * np.asarray(images, np.float64))[None]}

    yield OtherConstant(
        "epsilon of batch normalisation", epsilon, lambda one: answered(Forward(one)), EPSILONS
    )
    yield OtherConstant("scale of the images", 1.0, lambda one: answered(Forward(epsilon), one))
