"""ResNet-50 in TensorFlow, shared by training, inference and export: raw operations, no Keras.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC,
kernels HWCD, which are TensorFlow's own layouts, so that nothing is transposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import tensorflow as tf

# TensorFlow 2.21 has no public name for this; the converter's documentation uses this name.
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from benchmarks.contract.case import Case
from benchmarks.frameworks.tensorflow.adapter import multiplies_bf16
from workloads.resnet50 import network as resnet50

Convolve = Callable[[resnet50.Convolution, Any], Any]
"""Maps a convolution and its input BHWC to its normalised output BHWD."""


@dataclass(frozen=True)
class Convolutions:
    """How convolutions are computed, without batch normalisation."""

    pads_apart: bool = True
    """Whether a separate operation pads the images with zeros."""
    widens_products: bool = False
    """Whether operands and result are bf16, but multiplication and accumulation are in float32."""
    operation: Callable[..., Any] = tf.nn.conv2d
    """Computes a convolution; one of `products` in the tuned recipe of training."""

    def convolve(self, conv: resnet50.Convolution, x_BHWC: Any, kernel_HWCD: Any) -> Any:
        """The convolution with (kernel_size - 1) // 2 zeros on each side, BHWD in x's dtype.

        Without stride that equals SAME, which every backend takes. With stride, SAME would pad one
        side only.
        """
        dtype = x_BHWC.dtype
        if self.widens_products:
            x_BHWC, kernel_HWCD = tf.cast(x_BHWC, tf.float32), tf.cast(kernel_HWCD, tf.float32)
        margin = (conv.kernel_size - 1) // 2
        padding: Any = "SAME"
        if conv.stride > 1 and margin == 0:
            padding = "VALID"
        elif conv.stride > 1 and self.pads_apart:
            x_BHWC, padding = tf.pad(x_BHWC, _margins(margin)), "VALID"
        elif conv.stride > 1:
            padding = _margins(margin)
        x_BHWD = self.operation(x_BHWC, kernel_HWCD, strides=conv.stride, padding=padding)
        return tf.cast(x_BHWD, dtype)


def convolutions_for(case: Case) -> Convolutions:
    """The fastest convolutions for this case's device and precision."""
    on_cpu = case.place.device == "cpu"
    return Convolutions(
        # oneDNN's gradients do not take explicit padding, and TensorFlow falls back to kernels
        # that are several times slower; cuDNN takes it and spares a copy.
        # TensorFlow 2.21, RewriteConv2D in core/common_runtime/eager/mkl_eager_op_rewrite.cc.
        pads_apart=on_cpu,
        # Without bf16 units, compute as such a unit and XLA do: operands and result are rounded to
        # bf16, multiplication and accumulation are in fp32. oneDNN's emulation takes twice as long,
        # Eigen's bf16 ten times.
        widens_products=on_cpu and case.way.precision == "bf16" and not multiplies_bf16(),
    )


def features(layers: resnet50.Network, images_BHWC: Any, convolve: Convolve) -> Any:
    """The dense layer's input, BC in the images' dtype: the average of the last block's output."""
    x_BHWC = tf.nn.relu(convolve(layers.stem, images_BHWC))
    # A separate operation pads, because XLA's pooling takes no explicit padding. It pads with
    # zeros: a rectifier's output is never below 0.
    x_BHWC = tf.nn.max_pool2d(tf.pad(x_BHWC, _margins(1)), 3, 2, "VALID")
    for block in layers.blocks:
        x_BHWC = _bottleneck(block, x_BHWC, convolve)
    x_BC = tf.reduce_mean(tf.cast(x_BHWC, _wide(x_BHWC.dtype)), axis=(1, 2))
    return tf.cast(x_BC, x_BHWC.dtype)


def _bottleneck(block: resnet50.Block, x_BHWC: Any, convolve: Convolve) -> Any:
    first, second, third = block.convolutions
    y_BHWC = tf.nn.relu(convolve(first, x_BHWC))
    y_BHWC = tf.nn.relu(convolve(second, y_BHWC))
    y_BHWC = convolve(third, y_BHWC)
    if block.projection is not None:
        x_BHWC = convolve(block.projection, x_BHWC)
    return tf.nn.relu(y_BHWC + x_BHWC)


class FoldedResNet50(tf.Module):  # type: ignore[misc]  # tensorflow is untyped here
    """ResNet-50 v1.5 from images to logits, with normalisations folded into the convolutions."""

    def __init__(self, layers: resnet50.Network, convolutions: Convolutions) -> None:
        super().__init__()
        self.weights: dict[str, Any] = {}
        self._layers = layers
        self._convolutions = convolutions

    def logits(self, images_BHWC: Any) -> Any:
        """Class scores, BV, in float32 or wider."""
        x_BC = features(self._layers, images_BHWC, self._convolve)
        logits_BV = tf.matmul(x_BC, self.weights["head/kernel"]) + self.weights["head/bias"]
        return tf.cast(logits_BV, _wide(x_BC.dtype))

    def _convolve(self, conv: resnet50.Convolution, x_BHWC: Any) -> Any:
        """The convolution with its bias, BHWD."""
        kernel_HWCD = self.weights[f"{conv.name}/kernel"]
        x_BHWD = self._convolutions.convolve(conv, x_BHWC, kernel_HWCD)
        return tf.nn.bias_add(x_BHWD, self.weights[f"{conv.name}/bias"])


def frozen(model: FoldedResNet50, images_spec: Any) -> Any:
    """The model as a graph whose variables are constants, from images to a list of the logits.

    Constants are folded and fused: https://www.tensorflow.org/guide/graph_optimization.
    """
    traced = tf.function(model.logits, autograph=False).get_concrete_function(images_spec)
    return convert_variables_to_constants_v2(traced)


def activations_of(graph: Any) -> str:
    """The dtype of a rectifier's output, by NumPy's name or bfloat16."""
    rectifier = next(one for one in graph.get_operations() if one.type == "Relu")
    return str(rectifier.outputs[0].dtype.name)


def layout_of(graph: Any) -> str:
    """The layout of images in the convolutions: NHWC or NCHW."""
    convolution = next(one for one in graph.get_operations() if one.type == "Conv2D")
    return str(convolution.get_attr("data_format").decode())


def _wide(dtype: Any) -> Any:
    """The dtype of means and logits: float32, or float64."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def _margins(margin: int) -> list[list[int]]:
    """Padding of a BHWC tensor by the same margin on each side of H and W."""
    return [[0, 0], [margin, margin], [margin, margin], [0, 0]]
