"""ResNet-50 inference in ONNX Runtime: PyTorch's folded model, exported to ONNX.

Tuned: inputs and outputs are bound to values on the device, so that a request copies only its
output. For int8, ONNX Runtime's own tool quantises the exported model.

Shapes: B batch, H height, W width, C channels, V classes. Images are BCHW, as ONNX's convolutions
take them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.onnxruntime.adapter import Adapter
from workloads.resnet50.exported import EngineProgram, write_onnx

IMPLEMENTS = {"resnet50_infer"}
EXPORTED_FROM = {"pytorch": "workloads.resnet50.pytorch.export"}
QUANTISED_BY = {"onnxruntime": "workloads.resnet50.onnxruntime.quantise"}


def build(problem: Problem, framework: Adapter) -> ResNet50Inference:
    """Build the program of this case; it has no weights and no requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference(EngineProgram):
    """Runs requests in a session of the exported model, by bindings; see `EngineProgram`."""

    file_name = "model.onnx"

    def __init__(self, problem: Problem, framework: Adapter) -> None:
        super().__init__(problem, framework)
        self._session: Any = None

    def export(self, weights: Arrays) -> None:
        """Have PyTorch's implementation write the model, in a separate process."""
        write_onnx(self._problem, weights, self._file)

    def load(self, weights: Arrays) -> None:
        """Create a session of the exported model, which contains the weights."""
        del weights
        self._session = self._framework.session(str(self._file))
        shape = (self._problem.case.work.batch_size, self._problem.parameters["num_classes"])
        self._logits = self._framework.empty(shape, np.float32)

    def request_of(self, images_BHWC: np.ndarray) -> Any:
        """A binding of the images, on the device, and of the output."""
        images = self._framework.put(images_BHWC.transpose(0, 3, 1, 2))
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("images", images)
        binding.bind_ortvalue_output("logits", self._logits)
        return binding

    def step(self) -> Any:
        """Run the next request and return its logits."""
        self._session.run_with_iobinding(next(self._requests))
        return self._logits

    def inspect(self) -> Effective:
        """Dtypes and layout of the exported model's tensors."""
        graph = onnx.load(str(self._file)).graph
        kernel = next(one for one in graph.initializer if len(one.dims) == 4)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kernel.data_type)
        found = self._operations() if self._is_int8 else Counter()
        num_integer = found["QLinearConv"]
        num_all = num_integer + found["Conv"] + found["FusedConv"]
        return Effective(
            parameters=str(dtype),
            activations="uint8" if num_integer else "float32",
            integer_products=(num_integer, num_all) if self._is_int8 else None,
            flop_per_step=None,
            layout="NCHW",
            folded="batch normalisation",
        )

    def _operations(self) -> Counter[str]:
        """How often each operation occurs in the graph that a session makes of the model."""
        optimised = Path(self._problem.scratch_folder) / "optimised.onnx"
        self._framework.session(str(self._file), optimised_to=str(optimised))
        found = Counter(node.op_type for node in onnx.load(str(optimised)).graph.node)
        optimised.unlink()
        return found
