"""ResNet-50 answering requests in ONNX Runtime as its documentation shows, without tuning.

The tuned implementation and the harness are measured against it. The plain PyTorch model, exported
as it is, and `session.run` on NumPy arrays; for int8 quantised as ONNX Runtime's own example does.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.contract.program import Effective, RequestProgram
from benchmarks.frameworks.export_process import export
from workloads.resnet50 import inference_spec as spec

IMPLEMENTS = {"resnet50_infer"}
EXPORTED_FROM = {"pytorch": "straightforward.workloads.resnet50.plain_pytorch.inference"}


def build(problem, framework):
    return PlainInference(problem, framework)


class CalibrationImages(quantization.CalibrationDataReader):
    """Batches as the model takes them."""

    def __init__(self, images, batch_size):
        images = images.transpose(0, 3, 1, 2)
        starts = range(0, len(images), batch_size)
        self.batches = (
            images.take(range(start, start + batch_size), axis=0, mode="wrap") for start in starts
        )

    def get_next(self):
        return next(({"images": batch} for batch in self.batches), None)


def quantise(file, work):
    """https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"""
    prepared = file.with_name("prepared.onnx")
    quant_pre_process(file, prepared)
    quantization.quantize_static(
        prepared,
        file,
        CalibrationImages(spec.calibration_images(work), work.batch_size),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
    )


class PlainInference(RequestProgram):
    """The session, its requests, and the harness's protocol around them."""

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
            quantise(self.file, self.problem.case.work)

    def load(self, weights):
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        options.optimized_model_filepath = str(self.folder / "optimised.onnx")
        self.session = ort.InferenceSession(self.file, options, providers=["CPUExecutionProvider"])

    def feed(self, batches):
        self.requests = itertools.cycle(
            [np.ascontiguousarray(batch["images"].transpose(0, 3, 1, 2)) for batch in batches]
        )

    def step(self):
        images = next(self.requests)
        (logits,) = self.session.run(None, {"images": images})
        # The harness takes values of ONNX Runtime's own; this one is the array itself.
        self.logits = ort.OrtValue.ortvalue_from_numpy(logits)
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        graph = onnx.load(self.folder / "optimised.onnx").graph
        found = Counter(node.op_type for node in graph.node)
        num_integer = found["QLinearConv"]
        num_all = num_integer + found["Conv"] + found["FusedConv"]
        return Effective(
            parameters="int8" if num_integer else "float32",
            activations="uint8" if num_integer else "float32",
            integer_products=(num_integer, num_all) if self.is_int8 else None,
            layout="NCHW",
            flop_per_step=None,
        )

    def artefact_bytes(self):
        """The exporter puts the weights into a file of their own, beside the graph."""
        return sum(file.stat().st_size for file in self.folder.glob("model.onnx*"))
