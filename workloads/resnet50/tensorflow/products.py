"""Convolutions as matmuls, for the tuned recipe of training on a CPU.

Both functions stand in for `tf.nn.conv2d` as `network.Convolutions` calls it on a CPU: with a
square kernel, and with padding SAME if there is no stride, else VALID.

Shapes: B batch, H height, W width, C channels in, D channels out, N pixels of all outputs, K taps
of the kernel times C. Images are BHWC, kernels HWCD.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

MAX_FORWARD_SIZE = 4
"""Largest output, in pixels of height, that oneDNN computes more slowly than a matmul."""
MAX_GRADIENT_SIZE = 8
"""Largest output whose kernel's gradient oneDNN computes more slowly than a matmul."""
MAX_XLA_SIZE = 16
"""Largest output of a 3x3 kernel that XLA computes more slowly than a matmul of patches."""


def convolve_in_onednn(x_BHWC: Any, kernel_HWCD: Any, *, strides: int, padding: str) -> Any:
    """The convolution, BHWD, with matmuls in place of those of oneDNN's kernels that are slow.

    On images of a few pixels these are the forward pass and the kernel's gradient; the input's
    gradient is as fast as a matmul.
    """
    output_size = _output_size(x_BHWC, kernel_HWCD, strides=strides, padding=padding)
    if output_size > MAX_GRADIENT_SIZE:
        return tf.nn.conv2d(x_BHWC, kernel_HWCD, strides=strides, padding=padding)

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow is untyped here
    def convolve(x_BHWC: Any, kernel_HWCD: Any) -> tuple[Any, Any]:
        if output_size > MAX_FORWARD_SIZE:
            y_BHWD = tf.nn.conv2d(x_BHWC, kernel_HWCD, strides=strides, padding=padding)
        else:
            y_BHWD = _product(x_BHWC, kernel_HWCD, strides=strides, padding=padding)

        def gradients(dy_BHWD: Any) -> tuple[Any, Any]:
            patches_NK = _patches(x_BHWC, kernel_HWCD.shape[0], strides=strides, padding=padding)
            dy_ND = tf.reshape(dy_BHWD, (-1, kernel_HWCD.shape[-1]))
            dkernel_KD = tf.matmul(patches_NK, dy_ND, transpose_a=True)
            dx_BHWC = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=x_BHWC.shape,
                filter=kernel_HWCD,
                out_backprop=dy_BHWD,
                strides=[1, strides, strides, 1],
                padding=padding,
            )
            return dx_BHWC, tf.reshape(dkernel_KD, kernel_HWCD.shape)

        return y_BHWD, gradients

    return convolve(x_BHWC, kernel_HWCD)


def convolve_in_xla(x_BHWC: Any, kernel_HWCD: Any, *, strides: int, padding: str) -> Any:
    """The convolution, BHWD, as a matmul if XLA's CPU backend computes that faster.

    The reasons are those of `workloads.resnet50.jax.network.convolve_as_product`.
    """
    output_size = _output_size(x_BHWC, kernel_HWCD, strides=strides, padding=padding)
    if kernel_HWCD.shape[0] > 1 and output_size > MAX_XLA_SIZE:
        return tf.nn.conv2d(x_BHWC, kernel_HWCD, strides=strides, padding=padding)
    return _product(x_BHWC, kernel_HWCD, strides=strides, padding=padding)


def _product(x_BHWC: Any, kernel_HWCD: Any, *, strides: int, padding: str) -> Any:
    """The convolution as one matmul, BHWD."""
    patches_NK = _patches(x_BHWC, kernel_HWCD.shape[0], strides=strides, padding=padding)
    y_ND = tf.matmul(patches_NK, tf.reshape(kernel_HWCD, (-1, kernel_HWCD.shape[-1])))
    size = _output_size(x_BHWC, kernel_HWCD, strides=strides, padding=padding)
    return tf.reshape(y_ND, (x_BHWC.shape[0], size, size, -1))


def _patches(x_BHWC: Any, kernel_size: int, *, strides: int, padding: str) -> Any:
    """The inputs that the kernel covers at each output, NK in the order of a kernel's HWC."""
    if padding == "SAME" and kernel_size > 1:
        margins = [(kernel_size - 1) // 2] * 2
        x_BHWC = tf.pad(x_BHWC, [[0, 0], margins, margins, [0, 0]])
    extent = x_BHWC.shape[1] - kernel_size + 1
    taps = [
        x_BHWC[:, row : row + extent : strides, column : column + extent : strides]
        for row in range(kernel_size)
        for column in range(kernel_size)
    ]
    patches_BHWK = taps[0] if kernel_size == 1 else tf.concat(taps, axis=-1)
    return tf.reshape(patches_BHWK, (-1, kernel_size**2 * x_BHWC.shape[-1]))


def _output_size(x_BHWC: Any, kernel_HWCD: Any, *, strides: int, padding: str) -> int:
    """The height of the output."""
    covered = 0 if padding == "SAME" else kernel_HWCD.shape[0] - 1
    return int((x_BHWC.shape[1] - covered - 1) // strides + 1)
