"""ResNet-50 inference in LiteRT: TensorFlow's folded model, converted.

Shapes: B batch, H height, W width, C channels, V classes. Images are BHWC.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.litert.adapter import Adapter
from workloads.resnet50.exported import EngineProgram, write_litert

IMPLEMENTS = {"resnet50_infer"}
EXPORTED_FROM = {"tensorflow": "workloads.resnet50.tensorflow.export"}


def build(problem: Problem, framework: Adapter) -> ResNet50Inference:
    """Build the program of this case; it has no weights and no requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference(EngineProgram):
    """Runs requests in an interpreter of the converted model; see `EngineProgram`."""

    file_name = "model.tflite"

    def __init__(self, problem: Problem, framework: Adapter) -> None:
        super().__init__(problem, framework)
        self._interpreter: Any = None
        self._input = self._output = 0
        """Indices of the interpreter's input and output tensors."""

    def export(self, weights: Arrays) -> None:
        """Have TensorFlow's implementation convert its model, in a separate process."""
        write_litert(self._problem, weights, self._file)

    def load(self, weights: Arrays) -> None:
        """Create an interpreter of the converted model, which contains the weights."""
        del weights
        self._interpreter = self._framework.interpreter(self._file.read_bytes())
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def request_of(self, images_BHWC: np.ndarray) -> Any:
        """The images; `step` copies them into the interpreter's input."""
        return self._framework.put(images_BHWC)

    def step(self) -> np.ndarray:
        """Run the next request and return its logits."""
        self._interpreter.set_tensor(self._input, next(self._requests))
        self._interpreter.invoke()
        logits_BV: np.ndarray = self._interpreter.get_tensor(self._output)
        self._logits = logits_BV
        return logits_BV

    def inspect(self) -> Effective:
        """Dtypes and layout of the model's tensors."""
        tensors = {one["index"]: one for one in self._interpreter.get_tensor_details()}
        convolutions = [
            one for one in self._interpreter._get_ops_details() if one["op_name"] == "CONV_2D"
        ]
        dtypes = [np.dtype(tensors[one["inputs"][1]]["dtype"]).name for one in convolutions]
        outputs = [np.dtype(tensors[one["outputs"][0]]["dtype"]).name for one in convolutions]
        return Effective(
            parameters=dtypes[0],
            activations=outputs[0],
            integer_products=(dtypes.count("int8"), len(dtypes)) if self._is_int8 else None,
            flop_per_step=None,
            layout="NHWC",
            folded="batch normalisation",
        )
