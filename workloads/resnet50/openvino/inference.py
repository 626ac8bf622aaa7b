"""ResNet-50 inference in OpenVINO: PyTorch's folded model, exported to ONNX.

Tuned: the model reads each request's images in place, without a copy; all requests write to the
same output tensor.

Shapes: B batch, H height, W width, C channels, V classes. Images are BCHW, as ONNX's convolutions
take them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.openvino.adapter import Adapter
from workloads.resnet50.exported import EngineProgram, write_onnx

IMPLEMENTS = {"resnet50_infer"}
EXPORTED_FROM = {"pytorch": "workloads.resnet50.pytorch.export"}
QUANTISED_BY = {"onnxruntime": "workloads.resnet50.onnxruntime.quantise"}


NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i8": "int8", "u8": "uint8"}
"""NumPy's name of each of OpenVINO's types."""


def build(problem: Problem, framework: Adapter) -> ResNet50Inference:
    """Build the program of this case; it has no weights and no requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference(EngineProgram):
    """Runs device-resident requests through the compiled model; see `EngineProgram`."""

    file_name = "model.onnx"

    def __init__(self, problem: Problem, framework: Adapter) -> None:
        super().__init__(problem, framework)
        self._compiled: Any = None
        self._request: Any = None

    def export(self, weights: Arrays) -> None:
        """Have PyTorch's implementation write the model, in a separate process."""
        write_onnx(self._problem, weights, self._file)

    def load(self, weights: Arrays) -> None:
        """Compile the exported model, which contains the weights."""
        del weights
        self._compiled = self._framework.compile(str(self._file))
        self._request = self._compiled.create_infer_request()
        self._logits = self._request.get_output_tensor(0)

    def request_of(self, images_BHWC: np.ndarray) -> Any:
        """The images as a tensor, BCHW."""
        return self._framework.put(images_BHWC.transpose(0, 3, 1, 2))

    def step(self) -> Any:
        """Run the next request and return its logits."""
        self._request.set_input_tensor(0, next(self._requests))
        self._request.infer()
        return self._logits

    def inspect(self) -> Effective:
        """Dtypes in which the compiled model's layers run, as the model reports them."""
        layers = [one.get_rt_info() for one in self._compiled.get_runtime_model().get_ops()]
        found = Counter(
            str(layer["runtimePrecision"].value)
            for layer in layers
            if str(layer["layerType"].value) == "Convolution"
        )
        ((computed, _),) = found.most_common(1)
        name = NAMES.get(computed, computed)
        num_integer = found["u8"] + found["i8"]
        return Effective(
            parameters="int8" if num_integer else name,  # kernels are signed
            activations=name,
            integer_products=(num_integer, found.total()) if self._is_int8 else None,
            flop_per_step=None,
            layout="NCHW",
            folded="batch normalisation",
        )
