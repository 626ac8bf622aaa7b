"""ResNet-50 in JAX, shared by training and inference: convolutions and the block made of them.

Shapes: B batch, H height, W width, C channels in, D channels out, N samples of all images. Images
are BHWC, kernels HWCD.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import jax
import jax.numpy as jnp

from workloads.resnet50 import network as resnet50

MAX_PATCHED_SIZE = 16
"""The tuned recipe computes convolutions of images up to this height as matmuls with patches."""


def bottleneck(
    block: resnet50.Block,
    x_BHWC: jax.Array,
    convolve: Callable[[resnet50.Convolution, jax.Array], jax.Array],
) -> jax.Array:
    """Three convolutions and a shortcut, BHWD; `convolve` includes the normalisation."""
    first, second, third = block.convolutions
    y_BHWD = jax.nn.relu(convolve(first, x_BHWC))
    y_BHWD = jax.nn.relu(convolve(second, y_BHWD))
    y_BHWD = convolve(third, y_BHWD)
    if block.projection is not None:
        x_BHWC = convolve(block.projection, x_BHWC)
    return jax.nn.relu(y_BHWD + x_BHWC)


def convolve(x_BHWC: jax.Array, kernel_HWCD: jax.Array, *, stride: int) -> jax.Array:
    """The convolution, BHWD, padded by (kernel_size - 1) // 2 on each side."""
    padding = (kernel_HWCD.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        x_BHWC,
        kernel_HWCD,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def convolve_as_product(
    lhs: jax.Array, rhs: jax.Array, window_strides: Sequence[int], *_: Any, **__: Any
) -> jax.Array:
    """The same convolution, computed as a matmul if that is faster in XLA's CPU backend.

    A stand-in for `jax.lax.conv_general_dilated` as Flax's layer calls it, with padding of
    (kernel_size - 1) // 2. XLA computes the gradient of a 1x1 kernel as a convolution with a window
    of the image's size, which takes 3 to 8 times a matmul's time. An image smaller than the kernel
    misses its fast path and takes up to 40 times as long; up to 16 pixels, patches are never slower
    (jaxlib 0.10.2).
    """
    x_BHWC, kernel_HWCD, stride = lhs, rhs, window_strides[0]
    size = kernel_HWCD.shape[0]
    if size == 1:
        return product(x_BHWC[:, ::stride, ::stride], kernel_HWCD[0, 0])
    if x_BHWC.shape[1] > MAX_PATCHED_SIZE:
        return convolve(x_BHWC, kernel_HWCD, stride=stride)
    patches_BHWC = _patches(x_BHWC, size=size, stride=stride)
    return product(patches_BHWC, kernel_HWCD.reshape(-1, kernel_HWCD.shape[-1]))


def _patches(x_BHWC: jax.Array, *, size: int, stride: int) -> jax.Array:
    """The inputs that the kernel covers at each output, side by side as channels."""
    padding = (size - 1) // 2
    extent = (x_BHWC.shape[1] - 1) // stride * stride + 1
    x_BHWC = jnp.pad(x_BHWC, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    taps = [
        x_BHWC[:, row : row + extent : stride, column : column + extent : stride]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.concatenate(taps, axis=-1)


@jax.custom_vjp
def product(x_BHWC: jax.Array, weight_CD: jax.Array) -> jax.Array:
    """The matmul over the last axis, BHWD, with a weight gradient that transposes no operand.

    JAX's own gradient of the weight is a transposed matmul, for which XLA's CPU backend computes
    the output's gradient a second time, transposed: a quarter of the step's time (jaxlib 0.10.2).
    """
    return x_BHWC @ weight_CD


def _product_forward(
    x_BHWC: jax.Array, weight_CD: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x_BHWC, weight_CD), (x_BHWC, weight_CD)


def _product_backward(
    kept: tuple[jax.Array, jax.Array], dy_BHWD: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x_BHWC, weight_CD = kept
    x_NC = x_BHWC.reshape(-1, x_BHWC.shape[-1])
    dy_ND = dy_BHWD.reshape(-1, dy_BHWD.shape[-1])
    over_samples = (((0,), (0,)), ((), ()))
    return dy_BHWD @ weight_CD.T, jax.lax.dot_general(x_NC, dy_ND, over_samples)


product.defvjp(_product_forward, _product_backward)
