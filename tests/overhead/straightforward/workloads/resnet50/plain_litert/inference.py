"""ResNet-50 answering requests in LiteRT as its documentation shows, without tuning.

The tuned implementation and the harness are measured against it. The plain TensorFlow model,
converted from a saved model, and an interpreter; for int8 quantised by the converter.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.contract.program import Effective, RequestProgram
from benchmarks.frameworks.export_process import export
from workloads.resnet50 import inference_spec as spec

IMPLEMENTS = {"resnet50_infer"}
EXPORTED_FROM = {"tensorflow": "straightforward.workloads.resnet50.plain_tensorflow.inference"}


def build(problem, framework):
    return PlainInference(problem, framework)


class PlainInference(RequestProgram):
    """The interpreter, its requests, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        self.framework = framework
        self.problem = problem
        self.folder = Path(problem.scratch_folder)
        self.file = self.folder / "model.tflite"
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
        if self.is_int8:
            images = self.folder / "calibration.npy"
            np.save(images, spec.calibration_images(self.problem.case.work))
            request["images"] = str(images)
        export(self.problem.exporters["tensorflow"], request, folder=str(self.folder))

    def load(self, weights):
        num_threads = int(os.environ["OMP_NUM_THREADS"])
        self.interpreter = Interpreter(str(self.file), num_threads=num_threads)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.output = self.interpreter.get_output_details()[0]["index"]

    def feed(self, batches):
        self.requests = itertools.cycle([np.array(batch["images"]) for batch in batches])

    def step(self):
        self.interpreter.set_tensor(self.input, next(self.requests))
        self.interpreter.invoke()
        self.logits = self.interpreter.get_tensor(self.output)
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        dtypes = {
            one["index"]: one["dtype"].__name__ for one in self.interpreter.get_tensor_details()
        }
        operations = self.interpreter._get_ops_details()
        convolutions = [one["inputs"][1] for one in operations if one["op_name"] == "CONV_2D"]
        kernels = [dtypes[index] for index in convolutions]
        return Effective(
            parameters=kernels[0],
            activations="int8" if self.is_int8 else "float32",
            integer_products=(kernels.count("int8"), len(kernels)) if self.is_int8 else None,
            layout="NHWC",
            flop_per_step=None,
        )

    def artefact_bytes(self):
        return self.file.stat().st_size
