"""ResNet-50 answering requests in ONNX Runtime: PyTorch's folded model, exported to ONNX.

Tuned: inputs and outputs are bound to values on the device, so that nothing is copied in a request
but the answer.

Shapes: B batch, H height, W width, C channels, V classes. Images are BCHW, as ONNX's convolutions
take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.contract.workload import Arrays, Effective, Problem
from benchmarks.frameworks.exporting import export
from benchmarks.frameworks.onnxruntime.adapter import Adapter

IMPLEMENTS = {"resnet50_infer"}
EXPORTER = "workloads.resnet50_inference.pytorch_impl"


def build(problem: Problem, framework: Adapter) -> ResNet50Inference:
    """The program of this case, without weights and requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference:
    """A session of the exported model, its bindings, and the answer; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Adapter) -> None:
        self._framework = framework
        self._problem = problem
        self._folder = Path(problem.scratch_folder)
        self._file = self._folder / "model.onnx"
        self._session: Any = None
        self._bindings: list[Any] = []
        self._next = 0
        self._logits: Any = None

    def export(self, weights: Arrays) -> None:
        """Have PyTorch's implementation write the model, in a process of its own."""
        archive = self._folder / "weights.npz"
        np.savez(archive, allow_pickle=False, **weights)
        request = {
            "parameters": dict(self._problem.parameters),
            "batch_size": self._problem.case.work.batch_size,
            "epsilon": self._problem.hyperparameters["batch_norm_epsilon"],
            "weights": str(archive),
            "output": str(self._file),
        }
        export(EXPORTER, request, folder=str(self._folder))
        archive.unlink()

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
        return Effective(
            parameters=str(dtype),
            activations="float32",
            flop_per_step=None,
            layout="NCHW",
            folded="batch normalisation",
        )

    def artefact_bytes(self) -> int:
        """Size of the exported model."""
        return self._file.stat().st_size

    def _bound(self, images_BHWC: np.ndarray) -> Any:
        images = self._framework.put(images_BHWC.transpose(0, 3, 1, 2))
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("images", images)
        binding.bind_ortvalue_output("logits", self._logits)
        return binding
