"""The decoder answering requests in ONNX Runtime as its documentation shows, without tuning.

The tuned implementation and the harness are measured against it: two exported graphs, and
`session.run` on NumPy arrays, which keys and values come back as.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.contract.program import Effective
from benchmarks.frameworks.export_process import export
from workloads.transformer import inference_spec as spec

IMPLEMENTS = {"transformer_infer"}
EXPORTED_FROM = {"pytorch": "straightforward.workloads.transformer.plain_onnxruntime.export"}


def build(problem, framework):
    return PlainInference(problem, framework)


class PlainInference:
    """The sessions, their prompts, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        self.framework = framework
        self.problem = problem
        self.folder = Path(problem.scratch_folder)
        self.is_decode = spec.is_decode(problem.case.work)
        self.per_batch = spec.per_batch(problem.case.work)

    def export(self, weights):
        work, archive = self.problem.case.work, self.folder / "weights.npz"
        np.savez(archive, **weights)
        request = {
            "parameters": dict(self.problem.parameters),
            "constants": dict(self.problem.hyperparameters),
            "batch_size": work.batch_size,
            "cache_length": spec.cache_length(work),
            "prompt_length": spec.prompt_length(work),
            "weights": str(archive),
            "folder": str(self.folder),
        }
        export(self.problem.exporters["pytorch"], request, folder=str(self.folder))
        archive.unlink()

    def load(self, weights):
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        self.sessions = {
            name: ort.InferenceSession(
                self.folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"]
            )
            for name in (("prompt", "token") if self.is_decode else ("prompt",))
        }
        self.past = {}

    def feed(self, batches):
        self.batches = [
            {name: array.astype(np.int64) for name, array in batch.items()} for batch in batches
        ]
        self.next = 0

    def prepare(self):
        if not self.is_decode:
            return
        index, request = divmod(self.next, self.per_batch)
        batch = self.batches[index]
        if request == 0:
            self.past = {}
            self.answer("prompt", batch["tokens"])
        if "forced" in batch:
            self.tokens = batch["forced"][:, request]

    def step(self):
        index = self.next // self.per_batch
        self.next = (self.next + 1) % (len(self.batches) * self.per_batch)
        if self.is_decode:
            self.answer("token", self.tokens[:, None])
        else:
            self.past = {}
            self.answer("prompt", self.batches[index]["tokens"])
        # The harness takes values of ONNX Runtime's own; this one is the array itself.
        return ort.OrtValue.ortvalue_from_numpy(self.tokens)

    def answer(self, name, tokens):
        session = self.sessions[name]
        self.logits, *present = session.run(None, {"tokens": tokens, **self.past})
        names = [output.name.removeprefix("new_") for output in session.get_outputs()[1:]]
        self.past = dict(zip(names, present, strict=True))
        self.tokens = self.logits.argmax(-1)

    def read(self):
        return {"logits": np.array(self.logits)}

    def inspect(self):
        return Effective(
            parameters="float32", activations="float32", flop_per_step=None, attention="exported"
        )

    def artefact_bytes(self):
        """The exporter puts the weights into files of their own, beside the graphs."""
        return sum(file.stat().st_size for file in self.folder.glob("*.onnx*"))
