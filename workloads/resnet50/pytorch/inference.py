"""ResNet-50 inference in PyTorch, in its fastest idiom.

Tuned: batch normalisation is folded into the convolutions; channels_last; `compiled` uses Inductor,
on a CPU with the weights frozen into the graph, on CUDA with a CUDA graph that is replayed.

Shapes: B batch, H height, W width, C channels, V classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch._inductor.config
from torch import nn

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.pytorch.adapter import COMPUTE_DTYPES, TORCH_DEVICES, dtype_name
from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50
from workloads.resnet50.pytorch import network

IMPLEMENTS = {"resnet50_infer"}


def build(problem: Problem, framework: Framework) -> ResNet50Inference:
    """Build the program of this case; it has no weights and no requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference(RequestProgram):
    """Runs device-resident requests through the folded model; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        case = problem.case
        self._framework = framework
        self._epsilon = problem.hyperparameters["batch_norm_epsilon"]
        self._dtype = COMPUTE_DTYPES[case.way.precision]
        precision, device = case.way.precision, case.place.device
        self._memory_format = network.memory_format(device=device, precision=precision)
        is_widened = network.emulates_bf16(device=device, precision=precision)
        with torch.device("meta"):  # `load` sets the weights: draw none
            model = network.folded_model(
                resnet50.network(problem.parameters),
                network.WidenedConvolution if is_widened else nn.Conv2d,
            )
        model.to_empty(device=TORCH_DEVICES[device])
        held = torch.float32 if is_widened else self._dtype
        model.to(dtype=held, memory_format=self._memory_format)
        self._model = model.eval().requires_grad_(False)
        self._respond = self._logits_of
        if case.way.execution == "compiled":
            # On a CPU the weights are constants of the graph, which Inductor lays out and packs
            # once (torch 2.13 crashes if it packs float64). CUDA replays the graph as a whole,
            # with weights whose addresses do not change.
            is_packed = device == "cpu" and self._dtype != torch.float64
            torch._inductor.config.freezing = is_packed
            self._respond = torch.compile(
                self._logits_of,
                fullgraph=True,
                dynamic=False,
                mode="reduce-overhead" if device == "cuda" else None,
            )
        self._requests: list[torch.Tensor] = []
        self._turns = itertools.cycle(self._requests)
        self._logits: torch.Tensor | None = None

    def load(self, weights: Arrays) -> None:
        """Fold canonical weights and statistics, and copy the result to the device."""
        folded = dict(spec.folded(weights, self._epsilon))
        network.load_folded(self._model, folded, self._dtype)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these requests to the device, in the layout of the activations."""
        self._requests = [self._images(batch) for batch in batches]
        self._turns = itertools.cycle(self._requests)

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is untyped here
    def step(self) -> torch.Tensor:
        """Enqueue the next request and return its logits, still on the device."""
        self._logits = self._respond(next(self._turns))
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        assert self._logits is not None, "read before the first request"
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """Dtypes, layout and FLOP; torch counts the FLOP of matmuls, on tensors without values."""
        trace = network.traced(self._model, lambda model, images: model(images), self._requests[0])
        return Effective(
            parameters=dtype_name(self._model.head.weight.dtype),
            activations=trace.activations,
            flop_per_step=trace.flop,
            layout=trace.layout,
            folded="batch normalisation",
        )

    def _logits_of(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The logits in float32 or wider."""
        logits_BV = self._model(images_BCHW)
        return logits_BV if logits_BV.dtype == torch.float64 else logits_BV.float()

    def _images(self, batch: Arrays) -> torch.Tensor:
        return network.put_images(
            self._framework, batch, dtype=self._dtype, memory_format=self._memory_format
        )
