"""Keras's convolution, computed as a matmul on small images: the tuned recipe of training on a CPU.

Shapes: B batch, H height, W width, C channels in, D channels out, K taps of the kernel times C.
Images are BHWC, kernels HWCD.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class ProductConv2D(keras.layers.Conv2D):  # type: ignore[misc]  # keras is untyped here
    """A square convolution of BHWC images, computed as a matmul if it is 1x1 or its output small.

    Args:
        max_size: the largest output of a wider kernel, in pixels of height, that is a matmul.
        arguments: those of `keras.layers.Conv2D`.
    """

    def __init__(self, *arguments: Any, max_size: int, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._max_size = max_size

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """The convolution without bias, BHWD: what `Conv2D` calls, and lets a subclass replace."""
        (size, _), (stride, _) = self.kernel_size, self.strides
        x_BHWC, kernel_HWCD = inputs, kernel
        margin = (size - 1) // 2 if self.padding == "same" else 0
        extent = x_BHWC.shape[1] + 2 * margin - size + 1
        if size > 1 and (extent - 1) // stride + 1 > self._max_size:
            return super().convolution_op(inputs, kernel)
        if margin:
            x_BHWC = ops.pad(x_BHWC, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
        taps = [
            x_BHWC[:, row : row + extent : stride, column : column + extent : stride]
            for row in range(size)
            for column in range(size)
        ]
        patches_BHWK = taps[0] if size == 1 else ops.concatenate(taps, axis=-1)
        return ops.matmul(patches_BHWK, ops.reshape(kernel_HWCD, (-1, self.filters)))
