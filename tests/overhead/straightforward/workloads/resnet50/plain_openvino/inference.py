"""ResNet-50 answering requests in OpenVINO as its documentation shows, without tuning.

The tuned implementation and the harness are measured against it. The plain PyTorch model, exported
as it is to ONNX, compiled with the hint for latency, and called with NumPy arrays. For int8 ONNX
Runtime's tool quantises it: what OpenVINO's own, NNCF, makes of it is as fast (within 1 %).
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import openvino as ov

from benchmarks.contract.program import Effective, RequestProgram
from benchmarks.frameworks.export_process import export

IMPLEMENTS = {"resnet50_infer"}
EXPORTED_FROM = {"pytorch": "straightforward.workloads.resnet50.plain_pytorch.inference"}

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Where a CPU has bf16, OpenVINO takes it unless it is told otherwise."""
DTYPE_NAMES = {"f32": "float32", "bf16": "bfloat16", "u8": "uint8"}


def build(problem, framework):
    return PlainInference(problem, framework)


class PlainInference(RequestProgram):
    """The compiled model, its requests, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        self.framework = framework
        self.problem = problem
        self.folder = Path(problem.scratch_folder)
        self.file = self.folder / "model.onnx"
        self.is_int8 = problem.case.way.precision == "int8"

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
        export(self.problem.exporters["pytorch"], request, folder=str(self.folder))
        if self.is_int8:
            from straightforward.workloads.resnet50.plain_onnxruntime import inference as onnx

            onnx.quantise(self.file, self.problem.case.work)

    def load(self, weights):
        core = ov.Core()
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"]),
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[self.problem.case.way.precision],
        }
        self.compiled = core.compile_model(core.read_model(self.file), "CPU", options)

    def feed(self, batches):
        self.requests = itertools.cycle(
            [np.ascontiguousarray(batch["images"].transpose(0, 3, 1, 2)) for batch in batches]
        )

    def step(self):
        images = next(self.requests)
        logits = self.compiled(images)[0]
        # The harness takes values of OpenVINO's own; this one is the array itself.
        self.logits = ov.Tensor(logits, shared_memory=True)
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        layers = [one.get_rt_info() for one in self.compiled.get_runtime_model().get_ops()]
        computed = [
            layer["runtimePrecision"].value
            for layer in layers
            if layer["layerType"].value == "Convolution"
        ]
        return Effective(
            parameters="int8" if self.is_int8 else "float32",
            activations=DTYPE_NAMES[computed[0]],
            integer_products=(computed.count("u8"), len(computed)) if self.is_int8 else None,
            layout="NCHW",
            flop_per_step=None,
        )

    def artefact_bytes(self):
        """The exporter puts the weights into a file of their own, beside the graph."""
        return sum(file.stat().st_size for file in self.folder.glob("model.onnx*"))
