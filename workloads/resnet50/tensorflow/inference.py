"""ResNet-50 answering requests in TensorFlow: raw operations, one function from images to logits.

Tuned: batch normalisation folded into the convolutions, and for `graph` the weights frozen into the
graph, whose optimizer then fuses each convolution with its bias and rectifier and packs its kernel
once.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC,
kernels HWCD, which are TensorFlow's own layouts, so that nothing is transposed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
import tensorflow as tf

# TensorFlow 2.21 has no public name for it; the converter's own documentation uses this one.
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.tensorflow.adapter import COMPUTE_DTYPES, count_flop, multiplies_bf16
from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}


def build(problem: Problem, framework: Framework) -> ResNet50Inference:
    """The program of this case, without weights and requests yet."""
    return ResNet50Inference(problem, framework)


class FoldedResNet50(tf.Module):  # type: ignore[misc]  # tensorflow is untyped here
    """ResNet-50 v1.5 from images to logits, its normalisations folded into the convolutions."""

    def __init__(
        self, layers: resnet50.Network, *, pads_apart: bool = True, widens_products: bool = False
    ) -> None:
        super().__init__()
        self.weights: dict[str, Any] = {}
        self._layers = layers
        self._pads_apart = pads_apart
        self._widens_products = widens_products

    def logits(self, images_BHWC: Any) -> Any:
        """Class scores, BV, in float32 or wider."""
        x_BHWC = tf.nn.relu(self._convolve(self._layers.stem, images_BHWC))
        # Padded apart, because XLA pools without explicit padding only, and by zeros: what
        # comes out of a rectifier is never less.
        x_BHWC = tf.nn.max_pool2d(tf.pad(x_BHWC, _margins(1)), 3, 2, "VALID")
        for block in self._layers.blocks:
            x_BHWC = self._bottleneck(block, x_BHWC)
        wide = tf.float64 if x_BHWC.dtype == tf.float64 else tf.float32
        x_BC = tf.cast(tf.reduce_mean(tf.cast(x_BHWC, wide), axis=(1, 2)), x_BHWC.dtype)
        logits_BV = tf.matmul(x_BC, self.weights["head/kernel"]) + self.weights["head/bias"]
        return tf.cast(logits_BV, wide)

    def _bottleneck(self, block: resnet50.Block, x_BHWC: Any) -> Any:
        first, second, third = block.convolutions
        y_BHWC = tf.nn.relu(self._convolve(first, x_BHWC))
        y_BHWC = tf.nn.relu(self._convolve(second, y_BHWC))
        y_BHWC = self._convolve(third, y_BHWC)
        if block.projection is not None:
            x_BHWC = self._convolve(block.projection, x_BHWC)
        return tf.nn.relu(y_BHWC + x_BHWC)

    def _convolve(self, conv: resnet50.Convolution, x_BHWC: Any) -> Any:
        """The convolution with its bias, (kernel_size - 1) // 2 zeros on each side, BHWD."""
        kernel_HWCD = self.weights[f"{conv.name}/kernel"]
        dtype = x_BHWC.dtype
        if self._widens_products:
            x_BHWC, kernel_HWCD = tf.cast(x_BHWC, tf.float32), tf.cast(kernel_HWCD, tf.float32)
        margin = (conv.kernel_size - 1) // 2
        padding: Any = "SAME"  # without stride, the explicit padding; with stride one side only
        if conv.stride > 1 and margin == 0:
            padding = "VALID"
        elif conv.stride > 1 and self._pads_apart:
            x_BHWC, padding = tf.pad(x_BHWC, _margins(margin)), "VALID"
        elif conv.stride > 1:
            padding = _margins(margin)
        x_BHWD = tf.nn.conv2d(x_BHWC, kernel_HWCD, strides=conv.stride, padding=padding)
        return tf.nn.bias_add(tf.cast(x_BHWD, dtype), self.weights[f"{conv.name}/bias"])


def _margins(margin: int) -> list[list[int]]:
    """Padding of H and W of a BHWC tensor by the same number on each side."""
    return [[0, 0], [margin, margin], [margin, margin], [0, 0]]


class ResNet50Inference:
    """The folded model, device-resident requests, and the answer to one; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        case = problem.case
        on_cpu = case.place.device == "cpu"
        self._framework = framework
        self._execution = case.way.execution
        size = problem.parameters["image_size"]
        self._epsilon = problem.hyperparameters["batch_norm_epsilon"]
        self._dtype = COMPUTE_DTYPES[case.way.precision]
        self._model = FoldedResNet50(
            resnet50.network(problem.parameters),
            pads_apart=on_cpu,
            # As a bf16 unit and XLA do it: the CPU's own emulation takes two to ten times as long.
            widens_products=on_cpu and case.way.precision == "bf16" and not multiplies_bf16(),
        )
        self._images_spec = tf.TensorSpec((case.work.batch_size, size, size, 3), self._dtype)
        self._respond: Callable[..., Any] = self._model.logits
        self._requests: list[Any] = []
        self._next = 0
        self._logits: Any = None

    def export(self, weights: Arrays) -> None:
        """Do nothing: the weights are loaded as they are."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics, folded; the function is traced with them."""
        for name, array in spec.folded(weights, self._epsilon):
            self._model.weights[name] = tf.Variable(self._put(array), trainable=False)
        if self._execution == "compiled":
            self._respond = tf.function(self._model.logits, autograph=False, jit_compile=True)
        if self._execution == "graph":
            constant = frozen(self._model, self._images_spec)
            self._respond = lambda images_BHWC: constant(images_BHWC)[0]

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these requests on the device."""
        self._requests = [self._put(batch["images"]) for batch in batches]
        self._next = 0

    def prepare(self) -> None:
        """Do nothing: a request stands by itself."""

    def step(self) -> Any:
        """Enqueue the next request; its logits."""
        images_BHWC = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        self._logits = self._respond(images_BHWC)
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """What the tensors are, from a graph of the model, which every execution runs."""
        traced = tf.function(self._model.logits, autograph=False)
        graph = traced.get_concrete_function(self._requests[0]).graph
        operations = graph.get_operations()
        activations = next(one for one in operations if one.type == "Relu").outputs[0]
        return Effective(
            parameters=self._model.weights["head/kernel"].dtype.name,
            activations=activations.dtype.name,
            layout=next(one for one in operations if one.type == "Conv2D")
            .get_attr("data_format")
            .decode(),
            flop_per_step=count_flop(graph),
            folded="batch normalisation",
        )

    def artefact_bytes(self) -> None:
        """Nothing is exported."""

    def _put(self, array: np.ndarray) -> Any:
        wide = np.float64 if self._dtype == tf.float64 else np.float32
        return tf.cast(self._framework.put(array.astype(wide)), self._dtype)


def frozen(model: FoldedResNet50, images_spec: Any) -> Any:
    """The model as a graph whose variables are constants, from images to a list of the logits.

    https://www.tensorflow.org/guide/graph_optimization: what is constant is folded and fused.
    """
    traced = tf.function(model.logits, autograph=False).get_concrete_function(images_spec)
    return convert_variables_to_constants_v2(traced)


def convert_to_litert(request_file: str) -> None:
    """Write the folded model in float32 as LiteRT takes it: NHWC images to logits.

    The request is JSON: `parameters` and `batch_size` of the work, `epsilon`, `weights` (canonical,
    an .npz file) and `output`; with `images` (HWC, one after another in an .npy file) the model is
    quantised to int8 by them, what it takes and answers aside. The variables are frozen first: of
    a Keras model the converter would leave them out, and the answers would be NaN.
    """
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    layers = resnet50.network(request["parameters"])
    model = FoldedResNet50(layers)
    with np.load(request["weights"]) as weights:
        for name, array in spec.folded(dict(weights), request["epsilon"]):
            model.weights[name] = tf.Variable(array.astype(np.float32), trainable=False)
    size = layers.stem.input_size
    images_spec = tf.TensorSpec((request["batch_size"], size, size, 3), tf.float32, name="images")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen(model, images_spec)])
    if "images" in request:
        images = np.load(request["images"], allow_pickle=False)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: (
            [images.take(range(start, start + request["batch_size"]), axis=0, mode="wrap")]
            for start in range(0, len(images), request["batch_size"])
        )
    Path(request["output"]).write_bytes(converter.convert())


if __name__ == "__main__":
    convert_to_litert(sys.argv[1])
