"""Measures the effective precision of a matmul and a convolution with chosen operands.

The operands are chosen so that terms cancel, and the exact result is as small as the error of
rounding an operand to bf16. The error of a result then shows how its operands were rounded, and the
rounding of the result itself is negligible. NumPy only.

Shapes: B batch, H height, W width, C channels in, D channels out; N rows, K inner, M columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.precision import like, product_errors

BF16_BITS = 8
"""Significant bits of bf16, the leading one included."""


@dataclass(frozen=True)
class Product:
    """The operands of a matmul or convolution, with its exact result and the size of its terms."""

    left_operand: np.ndarray
    right_operand: np.ndarray
    exact: np.ndarray
    """The result in float64."""
    scale: float
    """Root mean square of a sum of as many independent terms of the same size."""

    def error(self, result: np.ndarray) -> float:
        """The rms error of a result, relative to the size of its terms."""
        difference = np.asarray(result, np.float64) - self.exact
        return float(np.sqrt(np.mean(np.square(difference)))) / self.scale


def matrix_product(*, size: int = 256) -> Product:
    """A matmul of float32 matrices, N x 2K times 2K x M."""
    generator = np.random.default_rng(1)
    x_NK = generator.standard_normal((size, size), dtype=np.float32)
    y_KM = rounded(generator.standard_normal((size, size), dtype=np.float32))
    a_NK = np.concatenate([x_NK, -rounded(x_NK)], axis=1)
    b_KM = np.concatenate([y_KM, y_KM], axis=0)
    exact_NM = a_NK.astype(np.float64) @ b_KM.astype(np.float64)
    squares_NM = np.square(a_NK, dtype=np.float64) @ np.square(b_KM, dtype=np.float64)
    return Product(a_NK, b_KM, exact_NM, math.sqrt(float(squares_NM.mean())))


def convolution(*, image_size: int = 16, channels: int = 32) -> Product:
    """A 3x3 convolution of float32 images, BHWC, with a kernel, HWCD, padded to the same size."""
    generator = np.random.default_rng(2)
    shape = (4, image_size, image_size, channels)
    x_BHWC = generator.standard_normal(shape, dtype=np.float32)
    y_HWCD = rounded(generator.standard_normal((3, 3, channels, channels), dtype=np.float32))
    images_BHWC = np.concatenate([x_BHWC, -rounded(x_BHWC)], axis=3)
    kernel_HWCD = np.concatenate([y_HWCD, y_HWCD], axis=2)
    squares = _convolve(
        np.square(images_BHWC, dtype=np.float64), np.square(kernel_HWCD, dtype=np.float64)
    )
    exact = _convolve(images_BHWC.astype(np.float64), kernel_HWCD.astype(np.float64))
    return Product(images_BHWC, kernel_HWCD, exact, math.sqrt(float(squares.mean())))


def rounded(array: np.ndarray, *, bits: int = BF16_BITS) -> np.ndarray:
    """float32 values rounded to this many significant bits, halves to even, as float32."""
    dropped = 24 - bits
    pattern = array.astype(np.float32).view(np.uint32)
    half = np.uint32((1 << (dropped - 1)) - 1)
    odd = (pattern >> np.uint32(dropped)) & np.uint32(1)
    kept = (pattern + half + odd) >> np.uint32(dropped) << np.uint32(dropped)
    return kept.astype(np.uint32).view(np.float32)


def precision_like(error: float) -> str:
    """The precision whose matmuls have an error of this size: bf16, tf32 (or fp16), fp32, fp64."""
    if not error > 0:
        return "fp64"
    known = product_errors()
    return min(known, key=lambda name: abs(math.log(error / known[name])))


def largest_error(asked: str) -> float:
    """The largest error that is nearer to the requested precision than to a coarser one."""
    known = product_errors()
    own = known[like(asked)]
    coarser = [error for error in known.values() if error > own]
    return math.sqrt(own * min(coarser, default=10 * own))


def _convolve(images_BHWC: np.ndarray, kernel_HWCD: np.ndarray) -> np.ndarray:
    """The convolution with one zero around the images, BHWD, as nine matmuls."""
    _, height, width, _ = images_BHWC.shape
    padded = np.pad(images_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.asarray(
        sum(
            padded[:, row : row + height, column : column + width] @ kernel_HWCD[row, column]
            for row in range(3)
            for column in range(3)
        )
    )
