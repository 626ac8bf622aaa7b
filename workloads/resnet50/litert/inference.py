"""ResNet-50 answering requests in LiteRT: TensorFlow's folded model, converted.

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
    """The program of this case, without weights and requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference(EngineProgram):
    """An interpreter of the converted model, and the answer to a request; see `EngineProgram`."""

    def __init__(self, problem: Problem, framework: Adapter) -> None:
        super().__init__(problem, framework)
        self._interpreter: Any = None
        self._input = self._output = 0
        """Positions of the interpreter's own tensors."""

    def export(self, weights: Arrays) -> None:
        """Have TensorFlow's implementation convert its model, in a process of its own."""
        self._file = write_litert(self._problem, weights)

    def load(self, weights: Arrays) -> None:
        """Make an interpreter of the converted model, which holds the weights."""
        del weights
        self._interpreter = self._framework.interpreter(self._file.read_bytes())
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def request_of(self, images_BHWC: np.ndarray) -> Any:
        """The images, which are copied into the interpreter's input when their turn comes."""
        return self._framework.put(images_BHWC)

    def step(self) -> np.ndarray:
        """Run the next request; its logits."""
        self._interpreter.set_tensor(self._input, next(self._requests))
        self._interpreter.invoke()
        logits_BV: np.ndarray = self._interpreter.get_tensor(self._output)
        self._logits = logits_BV
        return logits_BV

    def inspect(self) -> Effective:
        """What the model's tensors are."""
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
