"""ResNet-50 answering requests in ONNX Runtime: PyTorch's folded model, exported to ONNX.

Tuned: inputs and outputs are bound to values on the device, so that nothing is copied in a request
but the answer. For int8 the exported model is quantised by ONNX Runtime's own tool.

Shapes: B batch, H height, W width, C channels, V classes. Images are BCHW, as ONNX's convolutions
take them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.onnxruntime.adapter import Adapter
from workloads.resnet50.exported import write_onnx

IMPLEMENTS = {"resnet50_infer"}
EXPORTED_FROM = {"pytorch": "workloads.resnet50.pytorch.export"}
QUANTISED_BY = {"onnxruntime": "workloads.resnet50.onnxruntime.inference"}


def build(problem: Problem, framework: Adapter) -> ResNet50Inference:
    """The program of this case, without weights and requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference:
    """A session of the exported model, its bindings, and the answer; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Adapter) -> None:
        self._framework = framework
        self._problem = problem
        self._folder = Path(problem.scratch_folder)
        self._file = Path()
        self._session: Any = None
        self._bindings: list[Any] = []
        self._next = 0
        self._logits: Any = None

    def export(self, weights: Arrays) -> None:
        """Have PyTorch's implementation write the model, in a process of its own."""
        self._file = write_onnx(self._problem, weights)

    def load(self, weights: Arrays) -> None:
        """Make a session of the exported model, which holds the weights."""
        del weights
        self._session = self._framework.session(str(self._file))
        shape = (self._problem.case.work.batch_size, self._problem.parameters["num_classes"])
        self._logits = self._framework.empty(shape, np.float32)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these requests on the device, each bound beside the output."""
        self._bindings = [self._bound(batch["images"]) for batch in batches]
        self._next = 0

    def prepare(self) -> None:
        """Do nothing: a request stands by itself."""

    def step(self) -> Any:
        """Run the next request; its logits."""
        binding = self._bindings[self._next]
        self._next = (self._next + 1) % len(self._bindings)
        self._session.run_with_iobinding(binding)
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """What the exported model's tensors are."""
        graph = onnx.load(str(self._file)).graph
        kernel = next(one for one in graph.initializer if len(one.dims) == 4)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kernel.data_type)
        is_int8 = self._problem.case.way.precision == "int8"
        found = self._operations() if is_int8 else Counter()
        num_integer = found["QLinearConv"]
        num_all = num_integer + found["Conv"] + found["FusedConv"]
        return Effective(
            parameters=str(dtype),
            activations="uint8" if num_integer else "float32",
            integer_products=(num_integer, num_all) if is_int8 else None,
            flop_per_step=None,
            layout="NCHW",
            folded="batch normalisation",
        )

    def artefact_bytes(self) -> int:
        """Size of the exported model."""
        return self._file.stat().st_size

    def _operations(self) -> Counter[str]:
        """The operations of the graph that a session makes of the model."""
        optimised = self._folder / "optimised.onnx"
        self._framework.session(str(self._file), optimised_to=str(optimised))
        found = Counter(node.op_type for node in onnx.load(str(optimised)).graph.node)
        optimised.unlink()
        return found

    def _bound(self, images_BHWC: np.ndarray) -> Any:
        images = self._framework.put(images_BHWC.transpose(0, 3, 1, 2))
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("images", images)
        binding.bind_ortvalue_output("logits", self._logits)
        return binding


def quantise(request_file: str) -> None:
    """Write an ONNX model quantised to int8, per channel, its activations by calibration.

    The request is JSON: `model`, the `images` (HWC, one after another in an .npy file) and the
    `batch_size` in which it takes them, and `output`.
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    from onnxruntime import quantization

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped here
        """The images in batches."""

        def __init__(self) -> None:
            self._batches = batches_of(request["images"], request["batch_size"])

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next images as the model takes them; None after the last."""
            return next(({"images": one.transpose(0, 3, 1, 2)} for one in self._batches), None)

    quantization.quantize_static(
        request["model"],
        request["output"],
        Images(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def batches_of(file: str, batch_size: int) -> Iterator[np.ndarray]:
    """The images of a file in batches of this size, BHWC; the last is filled up with the first."""
    images = np.load(file, allow_pickle=False)
    for start in range(0, len(images), batch_size):
        yield images.take(range(start, start + batch_size), axis=0, mode="wrap")


if __name__ == "__main__":
    quantise(sys.argv[1])
