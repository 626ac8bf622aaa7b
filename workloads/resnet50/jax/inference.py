"""ResNet-50 inference in JAX: one compiled program from images to logits.

Batch normalisation is folded into the convolutions. On the CPU the weights are constants of the
program, so that XLA lays them out once; the tuned recipe computes 1x1 convolutions as matmuls.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC,
kernels HWCD, which are JAX's own layouts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract.case import TUNED as RECIPE_TUNED
from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.jax.adapter import COMPUTE_DTYPES, count_flop
from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50
from workloads.resnet50.jax import network

IMPLEMENTS = {"resnet50_infer"}
TUNED = {"resnet50_infer": "1x1 convolutions as matmuls"}
TUNED_ON = {"resnet50_infer": {"cpu"}}

Weights = Mapping[str, jax.Array]


def build(problem: Problem, framework: Framework) -> ResNet50Inference:
    """Build the program of this case; it has no weights and no requests yet."""
    return ResNet50Inference(problem, framework)


def convolve(
    layer: resnet50.Convolution, weights: Weights, x_BHWC: jax.Array, *, is_tuned: bool
) -> jax.Array:
    """The convolution with its bias, BHWD, padded by (kernel_size - 1) // 2 on each side."""
    kernel_HWCD = weights[f"{layer.name}/kernel"]
    stride = layer.stride
    if is_tuned and layer.kernel_size == 1:
        # XLA's CPU backend does not see that this is a matmul, which saves a quarter of the time.
        y_BHWD = x_BHWC[:, ::stride, ::stride] @ kernel_HWCD[0, 0]
    else:
        y_BHWD = network.convolve(x_BHWC, kernel_HWCD, stride=stride)
    return y_BHWD + weights[f"{layer.name}/bias"]


def stem(layer: resnet50.Convolution, weights: Weights, images_BHWC: jax.Array) -> jax.Array:
    """The first convolution and the max-pool."""
    x_BHWD = jax.nn.relu(convolve(layer, weights, images_BHWC, is_tuned=False))
    # Zeros pad correctly here: a rectifier's output is never below 0.
    return jax.lax.reduce_window(
        x_BHWD,
        np.zeros((), x_BHWD.dtype),
        jax.lax.max,
        window_dimensions=(1, 3, 3, 1),
        window_strides=(1, 2, 2, 1),
        padding=((0, 0), (1, 1), (1, 1), (0, 0)),
    )


def logits_of(
    layers: resnet50.Network, weights: Weights, images_BHWC: jax.Array, *, is_tuned: bool
) -> jax.Array:
    """The logits, BV, in float32 or wider."""
    x_BHWC = stem(layers.stem, weights, images_BHWC)
    for block in layers.blocks:
        x_BHWC = network.bottleneck(
            block,
            x_BHWC,
            lambda layer, x_BHWC: convolve(layer, weights, x_BHWC, is_tuned=is_tuned),
        )
    wide = jnp.promote_types(x_BHWC.dtype, jnp.float32)
    x_BC = x_BHWC.mean((1, 2), dtype=wide).astype(x_BHWC.dtype)
    return (x_BC @ weights["head/kernel"] + weights["head/bias"]).astype(wide)


class ResNet50Inference(RequestProgram):
    """Folded weights, requests on the device and the compiled model; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        self._framework = framework
        self._epsilon = problem.hyperparameters["batch_norm_epsilon"]
        self._layers = resnet50.network(problem.parameters)
        self._dtype = COMPUTE_DTYPES[problem.case.way.precision]
        self._is_tuned = problem.case.way.recipe == RECIPE_TUNED
        self._holds_weights = problem.case.place.device == "cpu"
        self._respond: Callable[[jax.Array], jax.Array] | None = None
        self._weights: dict[str, Any] = {}
        self._requests: list[Any] = []
        self._turns = itertools.cycle(self._requests)
        self._logits: Any = None

    def load(self, weights: Arrays) -> None:
        """Fold canonical weights and statistics, and copy the result to the device."""
        put = self._framework.put
        folded = spec.folded(weights, self._epsilon)
        weights = {name: put(array.astype(self._dtype)) for name, array in folded}
        self._weights = weights
        if self._holds_weights:
            self._respond = jax.jit(lambda images_BHWC: self._traced(weights, images_BHWC))
        else:  # an accelerator would hold them twice
            self._respond = partial(jax.jit(self._traced), weights)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these requests to the device."""
        put = self._framework.put
        self._requests = [put(batch["images"].astype(self._dtype)) for batch in batches]
        self._turns = itertools.cycle(self._requests)

    def step(self) -> Any:
        """Enqueue the next request and return its logits."""
        assert self._respond is not None, "a request before the weights"
        self._logits = self._respond(next(self._turns))
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """Dtypes, layout and FLOP of the program, from its trace."""
        images_BHWC = self._requests[0]
        activations = jax.eval_shape(
            lambda weights, images: stem(self._layers.stem, weights, images),
            self._weights,
            images_BHWC,
        )
        return Effective(
            parameters=str(self._weights["head/kernel"].dtype),
            activations=str(activations.dtype),
            flop_per_step=count_flop(self._traced, self._weights, images_BHWC),
            layout="NHWC",
            folded="batch normalisation",
        )

    def _traced(self, weights: Weights, images_BHWC: jax.Array) -> jax.Array:
        return logits_of(self._layers, weights, images_BHWC, is_tuned=self._is_tuned)
