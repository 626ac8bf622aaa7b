"""ResNet-50 answering requests in JAX as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. `jax.lax` convolutions, batch
normalisation by its running statistics, one jitted function of a dictionary of parameters.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.contract.program import Effective, RequestProgram
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}

COMPUTE_DTYPES = {"bf16": jnp.bfloat16, "fp16": jnp.float16, "fp64": jnp.float64}


def build(problem, framework):
    return PlainInference(problem, framework)


def conv_bn(params, conv, x, *, epsilon):
    margin = (conv.kernel_size - 1) // 2
    y = jax.lax.conv_general_dilated(
        x,
        params[f"{conv.name}/kernel"],
        window_strides=(conv.stride, conv.stride),
        padding=[(margin, margin), (margin, margin)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = (y - params[f"{conv.name}/bn/mean"]) * jax.lax.rsqrt(
        params[f"{conv.name}/bn/variance"] + epsilon
    )
    y = y * params[f"{conv.name}/bn/scale"] + params[f"{conv.name}/bn/bias"]
    return y.astype(x.dtype)


def max_pool(x):
    return jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        window_dimensions=(1, 3, 3, 1),
        window_strides=(1, 2, 2, 1),
        padding=[(0, 0), (1, 1), (1, 1), (0, 0)],
    )


def predict(params, images, *, layers, epsilon):
    """The logits of a batch of images."""
    normalised = partial(conv_bn, params, epsilon=epsilon)
    x = max_pool(jax.nn.relu(normalised(layers.stem, images)))
    for block in layers.blocks:
        one, two, three = block.convolutions
        y = jax.nn.relu(normalised(one, x))
        y = jax.nn.relu(normalised(two, y))
        y = normalised(three, y)
        shortcut = x if block.projection is None else normalised(block.projection, x)
        x = jax.nn.relu(y + shortcut)
    x = x.mean(axis=(1, 2))
    return x @ params["head/kernel"] + params["head/bias"]


class PlainInference(RequestProgram):
    """The jitted function, its requests, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        self.framework = framework
        self.dtype = jnp.dtype(COMPUTE_DTYPES.get(problem.case.way.precision, jnp.float32))
        self.predict = jax.jit(
            partial(
                predict,
                layers=resnet50.network(problem.parameters),
                epsilon=problem.hyperparameters["batch_norm_epsilon"],
            )
        )

    def load(self, weights):
        self.params = {
            name: self.framework.put(array.astype(self.dtype_of(name)))
            for name, array in weights.items()
        }

    def feed(self, batches):
        self.requests = itertools.cycle(
            [self.framework.put(batch["images"].astype(self.dtype)) for batch in batches]
        )

    def step(self):
        images = next(self.requests)
        self.logits = self.predict(self.params, images)
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters=str(self.params["head/kernel"].dtype),
            activations=str(self.dtype),
            layout="NHWC",
            flop_per_step=None,
        )

    def dtype_of(self, name):
        """Batch normalisation is computed in float32, as Flax does it."""
        return jnp.promote_types(self.dtype, jnp.float32) if "/bn/" in name else self.dtype
