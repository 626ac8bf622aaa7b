"""ResNet-50 inference in MLX: one function from images to logits, lazy or compiled.

Tuned: batch normalisation is folded into the convolutions.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC, which
MLX's convolutions take; kernels are DHWC here and HWCD in canonical layout, the dense one CD.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.mlx.adapter import COMPUTE_DTYPES, dtype_name
from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50
from workloads.resnet50.mlx import network

IMPLEMENTS = {"resnet50_infer"}

Weights = Mapping[str, mx.array]


def build(problem: Problem, framework: Framework) -> ResNet50Inference:
    """Build the program of this case; it has no weights and no requests yet."""
    return ResNet50Inference(problem, framework)


class ForwardPass:
    """Computes logits from images with folded weights."""

    def __init__(self, layers: resnet50.Network, *, device: str) -> None:
        self._layers = layers
        self._convolutions = network.convolutions(layers, device=device)

    def logits(self, weights: Weights, images_BHWC: mx.array) -> mx.array:
        """Class scores, BV, in float32 or wider."""
        x_BC = self.features(weights, images_BHWC)
        logits_BV = mx.addmm(weights["head/bias"], x_BC, weights["head/kernel"])
        return logits_BV.astype(network.wide(x_BC.dtype))

    def features(self, weights: Weights, images_BHWC: mx.array) -> mx.array:
        """The input of the dense layer, BC in the dtype of the activations."""
        return network.features(self._layers, images_BHWC, partial(self._convolve, weights))

    def _convolve(
        self, weights: Weights, layer: resnet50.Convolution, x_BHWC: mx.array
    ) -> mx.array:
        kernel_DHWC = weights[f"{layer.name}/kernel"]
        return self._convolutions[layer.stride](x_BHWC, kernel_DHWC) + weights[f"{layer.name}/bias"]


class ResNet50Inference(RequestProgram):
    """Folded weights, requests on the device and the forward pass; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        case = problem.case
        self._framework = framework
        self._epsilon = problem.hyperparameters["batch_norm_epsilon"]
        self._dtype = COMPUTE_DTYPES[case.way.precision]
        self._forward = ForwardPass(resnet50.network(problem.parameters), device=case.place.device)
        self._respond: Any = self._forward.logits
        if case.way.execution == "compiled":
            self._respond = mx.compile(self._forward.logits)
        self._weights: dict[str, mx.array] = {}
        self._requests: list[mx.array] = []
        self._turns = itertools.cycle(self._requests)
        self._logits: mx.array | None = None

    def load(self, weights: Arrays) -> None:
        """Fold canonical weights and statistics, and copy the result to the device."""
        for name, array in spec.folded(weights, self._epsilon):
            self._weights[name] = self._put(network.to_mlx_layout(array))
        mx.eval(self._weights)  # type: ignore[no-untyped-call]  # in mlx's stubs

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these requests to the device."""
        self._requests = [self._put(batch["images"]) for batch in batches]
        mx.eval(self._requests)  # type: ignore[no-untyped-call]  # in mlx's stubs
        self._turns = itertools.cycle(self._requests)

    def step(self) -> mx.array:
        """Enqueue the next request and return its logits."""
        self._logits = self._respond(self._weights, next(self._turns))
        mx.async_eval(self._logits)  # type: ignore[no-untyped-call]  # in mlx's stubs
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """Dtypes and layout of the program, from a pass that is recorded and never computed."""
        activations = self._forward.features(self._weights, self._requests[0])
        return Effective(
            parameters=dtype_name(self._weights["head/kernel"].dtype),
            activations=dtype_name(activations.dtype),
            flop_per_step=None,
            layout="NHWC",
            folded="batch normalisation",
        )

    def _put(self, array: np.ndarray) -> mx.array:
        """The array on the device in the compute dtype, which NumPy may not have."""
        wide = np.float64 if self._dtype == mx.float64 else np.float32
        value: mx.array = self._framework.put(array.astype(wide)).astype(self._dtype)
        return value
