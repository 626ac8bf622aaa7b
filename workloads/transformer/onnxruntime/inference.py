"""The decoder's inference in ONNX Runtime: a graph that PyTorch's exporter writes.

Tuned: each cache is bound as both input and output, so that a new token is added in place; an
output token is bound as the next request's input.

Shapes: B batch, P positions of the prompt, N new tokens, S slots of the cache, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.export_process import export
from benchmarks.frameworks.onnxruntime.adapter import Adapter
from workloads.transformer import inference_spec as spec

IMPLEMENTS = {"transformer_infer"}
EXPORTED_FROM = {"pytorch": "workloads.transformer.onnxruntime.export"}


def build(problem: Problem, framework: Adapter) -> DecoderInference:
    """Build the program of this case; it has no weights and no requests yet."""
    return DecoderInference(problem, framework)


class DecoderInference(RequestProgram):
    """Runs requests in a session of the exported graph, by bindings; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Adapter) -> None:
        work = problem.case.work
        self._framework = framework
        self._problem = problem
        self._folder = Path(problem.scratch_folder)
        self._file = Path(problem.export_folder) / "model.onnx"
        self._is_decode = spec.is_decode(work)
        self._per_batch = spec.per_batch(work)
        self._session: Any = None
        self._caches: list[Any] = []
        self._logits: Any = None
        self._answer: Any = None
        self._following: list[Any] = []
        """Two tensors of input tokens for the next pass: one is read while the other is written."""
        self._prompts: list[Any] = []
        self._decodes: list[list[Any]] = []
        self._next = 0

    def export(self, weights: Arrays) -> None:
        """Have PyTorch's exporter write the graph, in a separate process."""
        work = self._problem.case.work
        archive = self._folder / "weights.npz"
        np.savez(archive, allow_pickle=False, **weights)
        request = {
            "parameters": dict(self._problem.parameters),
            "constants": dict(self._problem.hyperparameters),
            "batch_size": work.batch_size,
            "cache_length": spec.cache_length(work),
            "weights": str(archive),
            "output": str(self._file),
        }
        export(self._problem.exporters["pytorch"], request, folder=str(self._folder))
        archive.unlink()

    def load(self, weights: Arrays) -> None:
        """Create a session of the exported graph, which contains the weights; empty the cache."""
        del weights
        work, parameters = self._problem.case.work, self._problem.parameters
        empty, batch_size = self._framework.empty, work.batch_size
        self._session = self._framework.session(str(self._file))
        num_heads = parameters["num_heads"]
        dimension = parameters["width"] // num_heads
        shape_BHSK = (batch_size, num_heads, spec.cache_length(work), dimension)
        zeros = np.zeros(shape_BHSK, np.float32)
        self._caches = [self._framework.put(zeros) for _ in range(2 * parameters["num_layers"])]
        self._logits = empty((batch_size, parameters["vocabulary_size"]), np.float32)
        self._answer = empty((batch_size,), np.int32)
        self._following = [empty((batch_size, 1), np.int64) for _ in range(2)]

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these prompts to the device, and bind the inputs and outputs of their passes."""
        first = spec.prompt_length(self._problem.case.work)
        self._prompts = [
            self._bound(one["tokens"].astype(np.int64), last=first - 1) for one in batches
        ]
        greedy = self._bound_decodes(None)  # the same for every prompt
        self._decodes = [
            self._bound_decodes(one["forced"]) if "forced" in one else greedy for one in batches
        ]
        self._next = 0

    def prepare(self) -> None:
        """Fill the cache from the prompt if a sequence begins."""
        index, request = divmod(self._next, self._per_batch)
        if self._is_decode and request == 0:
            self._session.run_with_iobinding(self._prompts[index])

    def step(self) -> Any:
        """Run the next request and return its output tokens."""
        index, request = divmod(self._next, self._per_batch)
        self._next = (self._next + 1) % (len(self._prompts) * self._per_batch)
        binding = self._decodes[index][request] if self._is_decode else self._prompts[index]
        self._session.run_with_iobinding(binding)
        return self._answer

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """Dtypes and attention of the graph."""
        return Effective(
            parameters="float32",
            activations="float32",
            flop_per_step=None,
            attention="GroupQueryAttention",
        )

    def artefact_bytes(self) -> int:
        """Size of the exported graph, with the weights if they are in a separate file."""
        return sum(file.stat().st_size for file in self._file.parent.glob("model.onnx*"))

    def _bound_decodes(self, forced_BN: np.ndarray | None) -> list[Any]:
        """The passes after a prompt; each takes the forced token, or the previous pass's output."""
        if not self._is_decode:
            return []
        first = spec.prompt_length(self._problem.case.work)
        passes = []
        for request in range(self._per_batch):
            tokens: Any = self._following[request % 2]
            if forced_BN is not None:
                tokens = forced_BN[:, request : request + 1].astype(np.int64)
            passes.append(self._bound(tokens, last=first + request, turn=request + 1))
        return passes

    def _bound(self, tokens: Any, *, last: int, turn: int = 0) -> Any:
        """The binding of one pass of these tokens, up to this position."""
        put, batch_size = self._framework.put, self._problem.case.work.batch_size
        inputs = {
            "tokens": put(tokens) if isinstance(tokens, np.ndarray) else tokens,
            "last": put(np.full(batch_size, last, np.int32)),
            "total": put(np.array(last + 1, np.int32)),
        }
        outputs = {
            "logits": self._logits,
            "answer": self._answer,
            "following": self._following[turn % 2],
        }
        num_layers = self._problem.parameters["num_layers"]
        for cache, (kind, layer) in zip(
            self._caches,
            ((kind, layer) for kind in ("keys", "values") for layer in range(num_layers)),
        ):
            inputs[f"{kind}{layer}"] = outputs[f"kept_{kind}{layer}"] = cache
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return binding
