"""ResNet-50 training in JAX, Flax linen and Optax: one compiled program from batch to new state.

Modules are named so that Flax's tree of variables is the canonical dictionary, nested. JAX's own
layouts are the canonical ones: nothing is transposed.

Shapes: B batch, H height, W width, C channels in, D channels out. Images are BHWC, kernels HWCD.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Program
from benchmarks.frameworks.jax.adapter import count_flop
from workloads.resnet50 import network as resnet50
from workloads.resnet50.jax.network import bottleneck, convolve, convolve_on_cpu

IMPLEMENTS = {"resnet50_train"}


class Numerics(NamedTuple):
    """The dtypes of a precision."""

    master: Any
    """Parameters, optimizer, batch statistics, logits and loss."""
    compute: Any
    """Convolutions, the dense layer and everything between them."""
    loss_scale: float = 1.0


NUMERICS = {
    "fp32": Numerics(jnp.float32, jnp.float32),
    "tf32": Numerics(jnp.float32, jnp.float32),
    "bf16": Numerics(jnp.float32, jnp.bfloat16),
    # A power of two scales exactly; 128 is what NVIDIA's ResNet-50 recipes use with fp16.
    "fp16": Numerics(jnp.float32, jnp.float16, loss_scale=128.0),
    "fp64": Numerics(jnp.float64, jnp.float64),
}

NO_VALUES = nn.initializers.zeros
"""Stands in for an initializer: `load` sets every value, and Flax only compares the shapes."""


@dataclass(frozen=True)
class Recipe:
    """Settings that all modules share."""

    numerics: Numerics
    convolve: Callable[..., jax.Array]
    epsilon: float
    share: float
    """Weight of the new batch in the running statistics."""


class State(NamedTuple):
    """The input and the output of a step; the output reuses the input's memory."""

    parameters: Any
    statistics: Any
    optimizer: Any


def build(problem: Problem, framework: Framework) -> Program:
    """Build the training program; it has no weights and no batches yet."""
    return ResNet50Training(problem, framework)


class BatchNorm(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """Batch normalisation with the batch's statistics; updates the running statistics.

    Ioffe and Szegedy (2015), algorithm 1. The variance is E[x^2] - E[x]^2, as in Flax's own module:
    it takes one pass over the activations, (x - E[x])^2 takes two. Its gradient agrees with the
    exact one to 6e-5 in fp32 at size tiny, far less than the flip of a single rectifier changes.
    Differs from Flax's own: the running variance is unbiased, as the workload defines it.
    """

    recipe: Recipe

    @nn.compact
    def __call__(self, x_BHWD: jax.Array) -> jax.Array:
        """The normalised input, in its dtype; everything else is in the master precision."""
        shape, dtype = x_BHWD.shape[-1:], self.recipe.numerics.master
        scale_D = self.param("scale", NO_VALUES, shape, dtype)
        bias_D = self.param("bias", NO_VALUES, shape, dtype)
        x = x_BHWD.astype(dtype)
        mean_D = x.mean((0, 1, 2))
        variance_D = jnp.maximum(jnp.square(x).mean((0, 1, 2)) - jnp.square(mean_D), 0)
        num_samples = x_BHWD.size // x_BHWD.shape[-1]
        self._move_on("mean", mean_D)
        self._move_on("variance", variance_D * (num_samples / (num_samples - 1)))
        slope_D = scale_D * jax.lax.rsqrt(variance_D + self.recipe.epsilon)
        return ((x - mean_D) * slope_D + bias_D).astype(x_BHWD.dtype)

    def _move_on(self, name: str, batch_D: jax.Array) -> None:
        running_D = self.variable("batch_stats", name, jnp.zeros_like, batch_D)
        running_D.value += self.recipe.share * (batch_D - running_D.value)


class Convolution(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """A convolution without bias, followed by batch normalisation."""

    recipe: Recipe
    layer: resnet50.Convolution

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        """The normalised convolution, BHWD."""
        layer, numerics = self.layer, self.recipe.numerics
        shape = (layer.kernel_size, layer.kernel_size, layer.in_channels, layer.out_channels)
        kernel_HWCD = self.param("kernel", NO_VALUES, shape, numerics.master)
        kernel_HWCD = kernel_HWCD.astype(numerics.compute)
        x_BHWD = self.recipe.convolve(x_BHWC, kernel_HWCD, stride=layer.stride)
        return BatchNorm(self.recipe, name="bn")(x_BHWD)


class Stem(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """The first convolution and the max-pool."""

    recipe: Recipe
    layer: resnet50.Convolution

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        """The pooled activations, BHWD."""
        x_BHWD = nn.relu(Convolution(self.recipe, self.layer, name="conv")(x_BHWC))
        return nn.max_pool(x_BHWD, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


class Bottleneck(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """Three convolutions and a shortcut."""

    recipe: Recipe
    block: resnet50.Block

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        """The block's output, BHWD."""
        return bottleneck(self.block, x_BHWC, self._convolved)

    def _convolved(self, layer: resnet50.Convolution, x_BHWC: jax.Array) -> jax.Array:
        return Convolution(self.recipe, layer, name=layer.name.rpartition("/")[2])(x_BHWC)


class Stage(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """Blocks one after another."""

    recipe: Recipe
    blocks: tuple[resnet50.Block, ...]

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        """The last block's output, BHWD."""
        for block in self.blocks:
            x_BHWC = Bottleneck(self.recipe, block, name=_parts(block)[1])(x_BHWC)
        return x_BHWC


class ResNet50(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """ResNet-50 v1.5 from images to logits."""

    recipe: Recipe
    layers: resnet50.Network

    @nn.compact
    def __call__(self, images_BHWC: jax.Array) -> jax.Array:
        """The logits, BD, in the master precision."""
        master, compute, _ = self.recipe.numerics
        x_BHWC = Stem(self.recipe, self.layers.stem, name="stem")(images_BHWC.astype(compute))
        for name, blocks in itertools.groupby(self.layers.blocks, lambda block: _parts(block)[0]):
            x_BHWC = Stage(self.recipe, tuple(blocks), name=name)(x_BHWC)
        x_BC = x_BHWC.mean((1, 2), dtype=master)
        head = nn.Dense(self.layers.num_classes, dtype=compute, param_dtype=master, name="head")
        return head(x_BC).astype(master)


def _parts(block: resnet50.Block) -> list[str]:
    """The names of a block's stage, the block and its first convolution."""
    return block.convolutions[0].name.split("/")


class ResNet50Training:
    """The state on the device, the batches, and the compiled step; see `Program`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        constants = problem.hyperparameters
        self._framework = framework
        self._numerics = NUMERICS[problem.case.way.precision]
        on_cpu = problem.case.place.device == "cpu"
        recipe = Recipe(
            self._numerics,
            convolve_on_cpu if on_cpu else convolve,
            constants["batch_norm_epsilon"],
            constants["batch_norm_momentum"],
        )
        self._model = ResNet50(recipe, resnet50.network(problem.parameters))
        self._optimizer = _optimizer(constants)
        self._train_step = jax.jit(self._traced_step, donate_argnums=0)
        self._state: State | None = None
        self._batches: list[tuple[Any, Any]] = []
        self._turns = itertools.cycle(self._batches)
        self._loss: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state."""
        values = {name: self._put_master(array) for name, array in weights.items()}
        parameters = _nested({n: v for n, v in values.items() if not resnet50.is_statistic(n)})
        statistics = _nested({n: v for n, v in values.items() if resnet50.is_statistic(n)})
        self._state = State(parameters, statistics, jax.jit(self._optimizer.init)(parameters))

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns."""
        put = self._framework.put
        self._batches = [(put(batch["images"]), put(batch["labels"])) for batch in batches]
        self._turns = itertools.cycle(self._batches)

    def step(self) -> Any:
        """Enqueue one training step on the next batch and return its loss.

        Waiting for the loss waits for the whole step: one program's results are ready together.
        """
        images_BHWC, labels_B = next(self._turns)
        self._state, self._loss = self._train_step(self._state, images_BHWC, labels_B)
        return self._loss

    def read(self) -> dict[str, np.ndarray]:
        """Copies of the last loss, the weights, the momentum buffers and the statistics."""
        assert self._state is not None, "read before load"
        groups = {
            "weights": self._state.parameters,
            "optimizer": optax.tree.get(self._state.optimizer, "trace"),
            "statistics": self._state.statistics,
        }
        named = traverse_util.flatten_dict({"loss": self._loss, **groups}, sep="/")
        return {name: self._framework.get(value) for name, value in named.items()}

    def inspect(self) -> Effective:
        """Dtypes, layout and FLOP of the step, from its trace."""
        assert self._state is not None, "inspect before load"
        images_BHWC, labels_B = self._batches[0]
        gradients, _, _ = jax.eval_shape(self._gradients, self._state, images_BHWC, labels_B)
        variables = {"params": self._state.parameters, "batch_stats": self._state.statistics}
        _, seen = jax.eval_shape(
            partial(self._model.apply, capture_intermediates=True, mutable=True),
            variables,
            images_BHWC,
        )
        return Effective(
            parameters=_dtype_name(self._state.parameters),
            gradients=_dtype_name(gradients),
            optimizer=_dtype_name(optax.tree.get(self._state.optimizer, "trace")),
            activations=_dtype_name(seen["intermediates"]["stage1"]),
            layout="NHWC",
            flop_per_step=count_flop(self._train_step, self._state, images_BHWC, labels_B),
        )

    def _put_master(self, array: np.ndarray) -> Any:
        return self._framework.put(array.astype(self._numerics.master))

    def _traced_step(
        self, state: State, images_BHWC: jax.Array, labels_B: jax.Array
    ) -> tuple[State, jax.Array]:
        """The new state and the loss, from the old state and a batch."""
        gradients, loss, statistics = self._gradients(state, images_BHWC, labels_B)
        updates, optimizer = self._optimizer.update(gradients, state.optimizer, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        return State(parameters, statistics, optimizer), loss

    def _gradients(
        self, state: State, images_BHWC: jax.Array, labels_B: jax.Array
    ) -> tuple[Any, jax.Array, Any]:
        """The gradients, the loss, and the running statistics updated with this batch."""
        loss_scale = self._numerics.loss_scale

        def scaled_loss(parameters: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            variables = {"params": parameters, "batch_stats": state.statistics}
            logits_BD, moved = self._model.apply(variables, images_BHWC, mutable=["batch_stats"])
            losses_B = optax.softmax_cross_entropy_with_integer_labels(logits_BD, labels_B)
            loss = losses_B.mean()
            return loss * loss_scale, (loss, moved["batch_stats"])

        gradients, (loss, statistics) = jax.grad(scaled_loss, has_aux=True)(state.parameters)
        return jax.tree.map(lambda gradient: gradient / loss_scale, gradients), loss, statistics


def _optimizer(constants: Mapping[str, float]) -> optax.GradientTransformation:
    """SGD with momentum and weight decay on kernels: v = m v + g + decay w, w = w - rate v."""
    return optax.chain(
        optax.add_decayed_weights(constants["weight_decay"], mask=_decayed),
        optax.trace(decay=constants["momentum"]),
        optax.scale(-constants["learning_rate"]),
    )


def _decayed(parameters: Any) -> Any:
    return traverse_util.path_aware_map(
        lambda path, _: resnet50.is_decayed("/".join(path)), parameters
    )


def _dtype_name(tree: Any) -> str:
    """The dtype of a tree's first array."""
    return str(jax.tree.leaves(tree)[0].dtype)


def _nested(values: Mapping[str, Any]) -> Any:
    return traverse_util.unflatten_dict(values, sep="/")
