"""ResNet-50 answering requests in LiteRT: TensorFlow's folded model, converted.

Shapes: B batch, H height, W width, C channels, V classes. Images are BHWC.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.litert.adapter import Adapter
from workloads.resnet50.exported import write_litert

IMPLEMENTS = {"resnet50_infer"}
EXPORTED_FROM = {"tensorflow": "workloads.resnet50.tensorflow.export"}


def build(problem: Problem, framework: Adapter) -> ResNet50Inference:
    """The program of this case, without weights and requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference:
    """An interpreter of the converted model, and the answer to a request; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Adapter) -> None:
        self._framework = framework
        self._problem = problem
        self._file = Path()
        self._interpreter: Any = None
        self._input = self._output = 0
        """Positions of the interpreter's own tensors."""
        self._requests: list[np.ndarray] = []
        self._next = 0
        self._logits: Any = None

    def export(self, weights: Arrays) -> None:
        """Have TensorFlow's implementation convert its model, in a process of its own."""
        self._file = write_litert(self._problem, weights)

    def load(self, weights: Arrays) -> None:
        """Make an interpreter of the converted model, which holds the weights."""
        del weights
        self._interpreter = self._framework.interpreter(self._file.read_bytes())
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Keep these requests: each is copied into the interpreter's input when its turn comes."""
        self._requests = [self._framework.put(batch["images"]) for batch in batches]
        self._next = 0

    def prepare(self) -> None:
        """Do nothing: a request stands by itself."""

    def step(self) -> np.ndarray:
        """Run the next request; its logits."""
        images_BHWC = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        self._interpreter.set_tensor(self._input, images_BHWC)
        self._interpreter.invoke()
        logits_BV: np.ndarray = self._interpreter.get_tensor(self._output)
        self._logits = logits_BV
        return logits_BV

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """What the model's tensors are."""
        tensors = {one["index"]: one for one in self._interpreter.get_tensor_details()}
        convolutions = [
            one for one in self._interpreter._get_ops_details() if one["op_name"] == "CONV_2D"
        ]
        dtypes = [np.dtype(tensors[one["inputs"][1]]["dtype"]).name for one in convolutions]
        outputs = [np.dtype(tensors[one["outputs"][0]]["dtype"]).name for one in convolutions]
        is_int8 = self._problem.case.way.precision == "int8"
        return Effective(
            parameters=dtypes[0],
            activations=outputs[0],
            integer_products=(dtypes.count("int8"), len(dtypes)) if is_int8 else None,
            flop_per_step=None,
            layout="NHWC",
            folded="batch normalisation",
        )

    def artefact_bytes(self) -> int:
        """Size of the converted model."""
        return self._file.stat().st_size
