"""ResNet-50 training in JAX, Flax linen and Optax: one compiled program from batch to new state.

Flax's own layers; the tuned recipe computes their convolutions as matmuls on the CPU. JAX's own
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

from benchmarks.contract.case import TUNED as RECIPE_TUNED
from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Program
from benchmarks.frameworks.jax.adapter import count_flop
from workloads.resnet50 import network as resnet50
from workloads.resnet50.jax.network import bottleneck, convolve_as_product

IMPLEMENTS = {"resnet50_train"}
TUNED = {"resnet50_train": "1x1 convolutions, others up to 16 px, as matmuls"}
TUNED_ON = {"resnet50_train": {"cpu"}}


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

CONVOLVE: Callable[..., jax.Array] = jax.lax.conv_general_dilated
"""The convolution of the idiomatic recipe: what Flax's layer calls by itself."""


@dataclass(frozen=True)
class Recipe:
    """Settings that all modules share."""

    numerics: Numerics
    convolve: Callable[..., jax.Array]
    """The operation that Flax's convolution calls."""
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


class Convolution(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """A convolution without bias, followed by batch normalisation: Flax's own layers."""

    recipe: Recipe
    layer: resnet50.Convolution

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        """The normalised convolution, BHWD."""
        layer, recipe = self.layer, self.recipe
        master, compute, _ = recipe.numerics
        x_BHWD = nn.Conv(
            layer.out_channels,
            (layer.kernel_size, layer.kernel_size),
            strides=layer.stride,
            padding=(layer.kernel_size - 1) // 2,
            use_bias=False,
            dtype=compute,
            param_dtype=master,
            conv_general_dilated=recipe.convolve,
            name="conv",
        )(x_BHWC)
        return nn.BatchNorm(
            use_running_average=False,
            momentum=1 - recipe.share,  # Flax's momentum is the old value's weight
            epsilon=recipe.epsilon,
            dtype=compute,
            param_dtype=master,
            name="bn",
        )(x_BHWD)


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
        self._share = constants["batch_norm_momentum"]
        self._batch_size = problem.case.work.batch_size
        self._layers = resnet50.network(problem.parameters)
        recipe = Recipe(
            self._numerics,
            convolve_as_product if problem.case.way.recipe == RECIPE_TUNED else CONVOLVE,
            constants["batch_norm_epsilon"],
            self._share,
        )
        self._model = ResNet50(recipe, self._layers)
        self._optimizer = _optimizer(constants)
        self._train_step = jax.jit(self._traced_step, donate_argnums=0)
        self._state: State | None = None
        self._initial: dict[str, np.ndarray] = {}
        self._num_steps = 0
        self._batches: list[tuple[Any, Any]] = []
        self._turns = itertools.cycle(self._batches)
        self._loss: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state."""
        self._initial = {
            n: a.astype(np.float64) for n, a in weights.items() if resnet50.is_statistic(n)
        }
        self._num_steps = 0
        values = {_path(name): self._put_master(array) for name, array in weights.items()}
        statistics = {_path(name): values.pop(_path(name)) for name in self._initial}
        parameters = traverse_util.unflatten_dict(values)
        self._state = State(
            parameters,
            traverse_util.unflatten_dict(statistics),
            jax.jit(self._optimizer.init)(parameters),
        )

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
        self._num_steps += 1
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
        arrays = {"loss": self._framework.get(self._loss)}
        for group, tree in groups.items():
            for path, value in traverse_util.flatten_dict(tree).items():
                arrays[f"{group}/{_canonical_name(path)}"] = self._framework.get(value)
        for layer in self._layers.convolutions():
            name = f"statistics/{layer.name}/bn/variance"
            arrays[name] = self._unbiased(layer, arrays[name])
        return arrays

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

    def _unbiased(self, layer: resnet50.Convolution, variance_D: np.ndarray) -> np.ndarray:
        """The running variance as if it averaged the unbiased variances of the batches.

        Differs: Flax averages the biased variances, which lack the factor n / (n - 1). Because the
        average is linear, the steps' contribution to it is rescaled here, outside of the steps.
        """
        num_samples = self._batch_size * layer.output_size**2
        kept = (1 - self._share) ** self._num_steps
        remainder_D = self._initial[f"{layer.name}/bn/variance"] * kept
        return remainder_D + (variance_D - remainder_D) * (num_samples / (num_samples - 1))

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
        lambda path, _: resnet50.is_decayed(_canonical_name(path)), parameters
    )


def _dtype_name(tree: Any) -> str:
    """The dtype of a tree's first array."""
    return str(jax.tree.leaves(tree)[0].dtype)


def _path(name: str) -> tuple[str, ...]:
    """The path in Flax's tree: a/kernel is a/conv/kernel there, and a variance is called var."""
    *module, leaf = name.split("/")
    if leaf == "kernel" and module != ["head"]:
        module.append("conv")
    return (*module, "var" if leaf == "variance" else leaf)


def _canonical_name(path: Sequence[str]) -> str:
    """The inverse of `_path`; the stem is called stem/conv in both."""
    *module, leaf = path
    if leaf == "kernel" and module != ["head"]:
        module.pop()
    return "/".join((*module, "variance" if leaf == "var" else leaf))
