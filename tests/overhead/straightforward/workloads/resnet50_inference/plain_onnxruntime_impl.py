"""ResNet-50 answering requests in ONNX Runtime as its documentation shows, without tuning.

The tuned implementation and the harness are measured against it. The plain PyTorch model, exported
as it is, and `session.run` on NumPy arrays.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.contract.workload import Effective
from benchmarks.frameworks.exporting import export

IMPLEMENTS = {"resnet50_infer"}
EXPORTER = "straightforward.workloads.resnet50_inference.plain_pytorch_impl"


def build(problem, framework):
    return PlainInference(problem, framework)


class PlainInference:
    """The session, its requests, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        self.framework = framework
        self.problem = problem
        self.folder = Path(problem.scratch_folder)
        self.file = self.folder / "model.onnx"

    def export(self, weights):
        archive = self.folder / "weights.npz"
        np.savez(archive, **weights)
        request = {
            "parameters": dict(self.problem.parameters),
            "batch_size": self.problem.case.work.batch_size,
            "epsilon": self.problem.hyperparameters["batch_norm_epsilon"],
            "weights": str(archive),
            "output": str(self.file),
        }
        export(EXPORTER, request, folder=str(self.folder))

    def load(self, weights):
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        self.session = ort.InferenceSession(self.file, options, providers=["CPUExecutionProvider"])

    def feed(self, batches):
        self.requests = [
            np.ascontiguousarray(batch["images"].transpose(0, 3, 1, 2)) for batch in batches
        ]
        self.next = 0

    def prepare(self):
        pass

    def step(self):
        images = self.requests[self.next]
        self.next = (self.next + 1) % len(self.requests)
        (logits,) = self.session.run(None, {"images": images})
        # The harness takes values of ONNX Runtime's own; this one is the array itself.
        self.logits = ort.OrtValue.ortvalue_from_numpy(logits)
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters="float32", activations="float32", layout="NCHW", flop_per_step=None
        )

    def artefact_bytes(self):
        """The exporter puts the weights into a file of their own, beside the graph."""
        return sum(file.stat().st_size for file in self.folder.glob("model.onnx*"))
