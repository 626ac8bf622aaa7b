"""ResNet-50 answering requests in MLX: one function from images to logits, lazily or compiled.

Tuned: batch normalisation folded into the convolutions.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC, which
MLX's convolutions take; kernels are DHWC here and HWCD in canonical layout, the dense one CD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.mlx.adapter import COMPUTE_DTYPES, Convolution, convolution, dtype_name
from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}

Weights = Mapping[str, mx.array]


def build(problem: Problem, framework: Framework) -> ResNet50Inference:
    """The program of this case, without weights and requests yet."""
    return ResNet50Inference(problem, framework)


class ForwardPass:
    """From images to logits by folded weights."""

    def __init__(self, layers: resnet50.Network, *, device: str) -> None:
        strides = {layer.stride for layer in layers.convolutions()}
        self._layers = layers
        self._convolutions: dict[int, Convolution] = {
            stride: convolution(device=device, stride=stride) for stride in strides
        }

    def logits(self, weights: Weights, images_BHWC: mx.array) -> mx.array:
        """Class scores, BV, in float32 or wider."""
        x_BHWC = self.stem(weights, images_BHWC)
        for block in self._layers.blocks:
            x_BHWC = self._bottleneck(block, weights, x_BHWC)
        wide = mx.float64 if x_BHWC.dtype == mx.float64 else mx.float32
        x_BC = x_BHWC.astype(wide).mean((1, 2)).astype(x_BHWC.dtype)
        return mx.addmm(weights["head/bias"], x_BC, weights["head/kernel"]).astype(wide)

    def stem(self, weights: Weights, images_BHWC: mx.array) -> mx.array:
        """The first convolution and the max-pool, BHWD."""
        return _max_pool(_relu(self._convolve(self._layers.stem, weights, images_BHWC)))

    def _bottleneck(self, block: resnet50.Block, weights: Weights, x_BHWC: mx.array) -> mx.array:
        first, second, third = block.convolutions
        y_BHWD = _relu(self._convolve(first, weights, x_BHWC))
        y_BHWD = _relu(self._convolve(second, weights, y_BHWD))
        y_BHWD = self._convolve(third, weights, y_BHWD)
        if block.projection is not None:
            x_BHWC = self._convolve(block.projection, weights, x_BHWC)
        return _relu(y_BHWD + x_BHWC)

    def _convolve(
        self, layer: resnet50.Convolution, weights: Weights, x_BHWC: mx.array
    ) -> mx.array:
        kernel_DHWC = weights[f"{layer.name}/kernel"]
        return self._convolutions[layer.stride](x_BHWC, kernel_DHWC) + weights[f"{layer.name}/bias"]


class ResNet50Inference:
    """Folded weights and requests on the device, and the answer to one; see `RequestProgram`."""

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
        self._next = 0
        self._logits: mx.array | None = None

    def export(self, weights: Arrays) -> None:
        """Do nothing: the weights are loaded as they are."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics, folded."""
        for name, array in spec.folded(weights, self._epsilon):
            self._weights[name] = self._put(_to_mlx_layout(array))
        mx.eval(self._weights)  # type: ignore[no-untyped-call]  # in mlx's stubs

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these requests on the device."""
        self._requests = [self._put(batch["images"]) for batch in batches]
        mx.eval(self._requests)  # type: ignore[no-untyped-call]  # in mlx's stubs
        self._next = 0

    def prepare(self) -> None:
        """Do nothing: a request stands by itself."""

    def step(self) -> mx.array:
        """Enqueue the next request; its logits."""
        images_BHWC = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        self._logits = self._respond(self._weights, images_BHWC)
        mx.async_eval(self._logits)  # type: ignore[no-untyped-call]  # in mlx's stubs
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """What the program's tensors are, from a pass that is recorded and never computed."""
        activations = self._forward.stem(self._weights, self._requests[0])
        return Effective(
            parameters=dtype_name(self._weights["head/kernel"].dtype),
            activations=dtype_name(activations.dtype),
            flop_per_step=None,
            layout="NHWC",
            folded="batch normalisation",
        )

    def artefact_bytes(self) -> None:
        """Nothing is exported."""

    def _put(self, array: np.ndarray) -> mx.array:
        """The array on the device in the compute dtype, of which NumPy may have none."""
        wide = np.float64 if self._dtype == mx.float64 else np.float32
        value: mx.array = self._framework.put(array.astype(wide)).astype(self._dtype)
        return value


def _relu(x: mx.array) -> mx.array:
    """The rectifier; nn.relu would be compiled by itself, in eager execution too."""
    return mx.maximum(x, 0)


def _max_pool(x_BHWC: mx.array) -> mx.array:
    """Maximum over 3x3, stride 2, padded by 1 with zeros, over rows and then over columns."""
    x_BHWC = mx.pad(x_BHWC, [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = x_BHWC.shape[1] - 2, x_BHWC.shape[2] - 2
    x_BHWC = _largest([x_BHWC[:, tap : tap + height : 2] for tap in range(3)])
    return _largest([x_BHWC[:, :, tap : tap + width : 2] for tap in range(3)])


def _largest(arrays: Sequence[mx.array]) -> mx.array:
    first, second, third = arrays
    return mx.maximum(mx.maximum(first, second), third)


def _to_mlx_layout(array: np.ndarray) -> np.ndarray:
    """HWCD to DHWC; matrices and vectors as they are."""
    return array.transpose(3, 0, 1, 2) if array.ndim == 4 else array
