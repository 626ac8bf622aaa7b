"""The decoder in Keras 3, for every backend: its layers, and the model that is trained.

Every weight is trained, or only LoRA's adapters. Tuned: projections of the same input are one
matmul, kernels have the layout that is fastest on the backend, and attention is Keras's operation
if that has a fused kernel.

Shapes: B batch, T positions, N all positions of a batch (B T), D width, H heads, K head dimension,
F width of the MLP, V vocabulary, R rank, I inputs and O outputs of a projection. Kernels are IO, or
OI on a backend that is faster with that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from benchmarks.contract.program import Arrays, Problem
from benchmarks.frameworks.keras.framework import KerasFramework
from benchmarks.frameworks.keras.model import TrainedModel
from workloads.transformer import network


class Held(NamedTuple):
    """A variable and the canonical arrays in it, side by side along their last axis."""

    variable: Any
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    is_turned: bool

    def own(self, weights: Arrays) -> np.ndarray:
        """The variable's value, made from the canonical arrays."""
        parts = [weights[name] for name in self.names]
        whole = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return whole.T if self.is_turned else whole

    def canonical(self, name: str, own: np.ndarray) -> np.ndarray:
        """The canonical array of this name, taken from the variable's value."""
        index = self.names.index(name)
        part = slice(sum(self.sizes[:index]), sum(self.sizes[: index + 1]))
        return np.ascontiguousarray((own.T if self.is_turned else own)[..., part])


@dataclass(frozen=True)
class Recipe:
    """Settings that all layers share, and the weights that they have created."""

    problem: Problem
    compute: str
    """Dtype of activations, of matmuls' results and of frozen weights."""
    operand: str
    """Dtype of matmuls' operands and sums. For bf16 on a CPU without bf16 units it is float32, in
    which such a unit accumulates: bf16 itself is many times slower there."""
    wide: str
    """Dtype of normalisation, rotation, softmax and loss."""
    turns_kernels: bool
    """Whether kernels are OI."""
    fused_attention: str | None
    """The kernel of Keras's attention; None if attention is computed by matmuls."""
    held: list[Held] = dataclasses.field(default_factory=list)

    @property
    def parameters(self) -> Mapping[str, int]:
        """The model's dimensions."""
        return self.problem.parameters

    @property
    def lora(self) -> Mapping[str, float]:
        """The adapters' constants; empty if every weight is trained."""
        constants = self.problem.hyperparameters
        return {name: value for name, value in constants.items() if name.startswith("lora_")}

    def weight(self, layer: Any, names: Sequence[str], shape: tuple[int, ...], *sizes: int) -> Any:
        """A weight of a layer for these canonical arrays, whose last axis has these sizes.

        With LoRA only adapters are trained. The other weights are frozen when they are created, an
        option that Keras's own layers lack: TensorFlow watches a variable that is frozen later, and
        computes its gradient for nothing.
        """
        is_trained = not self.lora or network.is_adapter(names[0])
        is_turned = self.turns_kernels and not names[0].endswith(("/table", "/scale"))
        shape = (*shape, sum(sizes))
        variable = layer.add_weight(
            shape=shape[::-1] if is_turned else shape,
            initializer="zeros",  # `load` sets the weights: draw none
            dtype=None if is_trained else self.compute,
            trainable=is_trained,
            autocast=False,
            # Names are unique: otherwise torch would zero only the last variable's gradient.
            name=_keras_name(names[0]),
        )
        self.held.append(Held(variable, tuple(names), sizes, is_turned))
        return variable

    def product(self, x_BTI: Any, kernel: Any) -> Any:
        """The matmul of the input and the kernel, both in the compute dtype, BTO."""
        kernel = ops.cast(ops.cast(kernel, self.compute), self.operand)
        if self.turns_kernels:
            kernel = ops.transpose(kernel)
        return ops.cast(ops.matmul(ops.cast(x_BTI, self.operand), kernel), self.compute)


def recipe_of(problem: Problem, framework: KerasFramework) -> Recipe:
    """The settings of the model in the configured precision on the configured backend."""
    compute, wide = keras.config.dtype_policy().compute_dtype, keras.config.floatx()
    widens_products = compute == "bfloat16" and framework.describe()["products"] == "float32"
    operand = wide if widens_products else compute
    num_heads, work = problem.parameters["num_heads"], problem.case.work
    heads = (num_heads, problem.parameters["width"] // num_heads)
    shape = (work.batch_size, network.sequence_length(work), *heads)
    return Recipe(
        problem,
        compute=compute,
        operand=operand,
        wide=wide,
        turns_kernels=framework.kernel_layout == "OI",
        fused_attention=framework.fused_attention(shape, operand),
    )


class Embedding(layers.Layer):
    """The vectors of tokens."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="embedding")
        size, width = recipe.parameters["vocabulary_size"], recipe.parameters["width"]
        self.table_VD = recipe.weight(self, ["embedding/table"], (size,), width)

    def call(self, tokens_BT: Any) -> Any:
        """The rows of the table for these tokens, BTD."""
        return ops.cast(ops.take(self.table_VD, tokens_BT, axis=0), self.compute_dtype)


class RMSNorm(layers.Layer):
    """Zhang and Sennrich (2019), by Keras's operation, which computes in float32 or wider."""

    def __init__(self, recipe: Recipe, name: str) -> None:
        super().__init__(name=_keras_name(name))
        self.epsilon = recipe.problem.hyperparameters["rms_norm_epsilon"]
        self.scale_D = recipe.weight(self, [f"{name}/scale"], (), recipe.parameters["width"])

    def call(self, x_BTD: Any) -> Any:
        """The normalised input in its dtype."""
        return ops.rms_normalization(x_BTD, scale=self.scale_D, axis=-1, epsilon=self.epsilon)


class Projections(layers.Layer):
    """Projections of one input as one matmul, without bias; LoRA freezes them and adds adapters.

    LoRA: Hu et al. (2021), section 4.1. Differs: Keras's own, `Dense.enable_lora`, adds A B to the
    kernel in each step, which needs the gradient of the whole kernel, and keeps A and B in float32
    in every precision (Keras 3.15, keras/src/layers/core/dense.py).
    """

    def __init__(
        self, recipe: Recipe, parts: Sequence[network.Projection], *, adapts: bool = True
    ) -> None:
        names, num_inputs = [part.name for part in parts], parts[0].num_inputs
        super().__init__(name=_keras_name(names[0]))
        self.recipe = recipe
        self.sizes = tuple(part.num_outputs for part in parts)
        kernels = [f"{name}/kernel" for name in names]
        self.kernel = recipe.weight(self, kernels, (num_inputs,), *self.sizes)
        self.a: Any = None
        self.b: list[Any] = []
        if recipe.lora and adapts:
            rank = int(recipe.lora["lora_rank"])
            self.factor = recipe.lora["lora_alpha"] / recipe.lora["lora_rank"]
            self.ranks = (rank,) * len(names)
            adapters = [f"{name}/lora_a" for name in names]
            self.a = recipe.weight(self, adapters, (num_inputs,), *self.ranks)
            self.b = [
                recipe.weight(self, [f"{name}/lora_b"], (rank,), size)
                for name, size in zip(names, self.sizes)
            ]

    def call(self, x_BTI: Any) -> list[Any]:
        """The output of each part, BTO."""
        product = self.recipe.product
        outputs = _split(product(x_BTI, self.kernel), self.sizes)
        if self.a is None:
            return outputs
        lows = _split(product(x_BTI, self.a) * self.factor, self.ranks)
        return [output + product(low, b) for output, low, b in zip(outputs, lows, self.b)]


class Attention(layers.Layer):
    """RoPE on pairs of the head's halves, Su et al. (2021), section 3.4.2, and causal attention.

    It has no weights: all layers share it and its tables of angles.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="attention")
        self.recipe = recipe
        length = network.sequence_length(recipe.problem.case.work)
        dimension = recipe.parameters["width"] // recipe.parameters["num_heads"]
        exponents_K = np.arange(0, dimension, 2) / dimension
        frequencies_K = recipe.problem.hyperparameters["rotary_base"] ** -exponents_K
        angles_T1K = (np.arange(length)[:, None] * frequencies_K)[:, None]
        self.cos_T1K = self._table("cos", np.cos(angles_T1K))
        self.sin_T1K = self._table("sin", np.sin(angles_T1K))
        self.scale = 1 / math.sqrt(dimension)
        self.is_fused = recipe.fused_attention is not None
        if not self.is_fused:
            self.unseen_TT = self._table("unseen", _unseen(length, recipe.wide))

    def call(self, query_BTHK: Any, key_BTHK: Any, value_BTHK: Any) -> Any:
        """The attended values, BTHK."""
        compute, operand = self.recipe.compute, self.recipe.operand
        query, key = self._rotated(query_BTHK), self._rotated(key_BTHK)
        if not self.is_fused:
            query = query * self.scale
        heads = [ops.cast(ops.cast(one, compute), operand) for one in (query, key, value_BTHK)]
        if not self.is_fused:
            return ops.cast(self._attend(*heads), compute)
        mixed_BTHK = ops.dot_product_attention(*heads, scale=self.scale, is_causal=True)
        return ops.cast(mixed_BTHK, compute)

    def _rotated(self, x_BTHK: Any) -> Any:
        """RoPE of x in the wide dtype, BTHK."""
        first, second = ops.split(ops.cast(x_BTHK, self.recipe.wide), 2, axis=-1)
        cos, sin = self.cos_T1K, self.sin_T1K
        turned = (first * cos - second * sin, second * cos + first * sin)
        return ops.concatenate(turned, axis=-1)

    def _attend(self, query_BTHK: Any, key_BTHK: Any, value_BTHK: Any) -> Any:
        """Attention by matmuls, from scaled queries, BTHK.

        Differs: Keras's operation creates a mask as large as the scores in each call; steps with
        1024 positions took a tenth to a fifth longer on a CPU (Keras 3.15).
        """
        query_BHTK = ops.transpose(query_BTHK, (0, 2, 1, 3))
        scores_BHTT = ops.matmul(query_BHTK, ops.transpose(key_BTHK, (0, 2, 3, 1)))
        attention_BHTT = ops.softmax(ops.cast(scores_BHTT, self.recipe.wide) + self.unseen_TT)
        value_BHTK = ops.transpose(value_BTHK, (0, 2, 1, 3))
        mixed_BHTK = ops.matmul(ops.cast(attention_BHTT, self.recipe.operand), value_BHTK)
        return ops.transpose(mixed_BHTK, (0, 2, 1, 3))

    def _table(self, name: str, values: np.ndarray) -> Any:
        return self.add_weight(
            shape=values.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(values, dtype),
            dtype=self.recipe.wide,
            trainable=False,
            autocast=False,
            name=name,
        )


class DecoderLayer(layers.Layer):
    """Attention and MLP, each behind a normalisation and added to its input."""

    def __init__(self, recipe: Recipe, index: int, attention: Attention) -> None:
        super().__init__(name=f"layer{index}")
        parts = network.layer_projections(recipe.parameters, index)
        self.recomputes = dict(recipe.problem.case.way.options)["recompute"] == "full"
        self.num_heads = recipe.parameters["num_heads"]
        self.attention = attention
        self.attention_norm = RMSNorm(recipe, f"layer{index}/attention_norm")
        self.query_key_value = Projections(recipe, parts.query_key_value)
        self.output_projection = Projections(recipe, parts.output)
        self.mlp_norm = RMSNorm(recipe, f"layer{index}/mlp_norm")
        self.gate_up = Projections(recipe, parts.gate_up)
        self.down = Projections(recipe, parts.down)

    def call(self, x_BTD: Any) -> Any:
        """The layer's output, BTD."""
        if not self.recomputes:
            return self._forward(x_BTD)
        # A new function for each call: for a known one JAX would reuse an earlier trace, in which
        # that call's weights are constants (Keras 3.15, jax 0.10).
        return keras.remat(lambda y_BTD: self._forward(y_BTD))(x_BTD)

    def _forward(self, x_BTD: Any) -> Any:
        x_BTD = x_BTD + self._attend(self.attention_norm(x_BTD))
        gate_BTF, up_BTF = self.gate_up(self.mlp_norm(x_BTD))
        (down_BTD,) = self.down(ops.silu(gate_BTF) * up_BTF)  # Shazeer (2020), SwiGLU
        return x_BTD + down_BTD

    def _attend(self, x_BTD: Any) -> Any:
        *positions, width = x_BTD.shape
        shape = (*positions, self.num_heads, width // self.num_heads)
        heads = (ops.reshape(part, shape) for part in self.query_key_value(x_BTD))
        mixed_BTD = ops.reshape(self.attention(*heads), x_BTD.shape)
        (output_BTD,) = self.output_projection(mixed_BTD)
        return output_BTD


def decoder(recipe: Recipe) -> TrainedModel:
    """The decoder from tokens to logits, NV in the wide dtype."""
    work, parameters = recipe.problem.case.work, recipe.parameters
    length = network.sequence_length(work)
    attention = Attention(recipe)
    tokens_BT = keras.Input((length,), batch_size=work.batch_size, dtype="int64")
    x_BTD = Embedding(recipe)(tokens_BT)
    for index in range(parameters["num_layers"]):
        x_BTD = DecoderLayer(recipe, index, attention)(x_BTD)
    head = Projections(recipe, [network.head(parameters)], adapts=False)
    (logits_BTV,) = head(RMSNorm(recipe, "final_norm")(x_BTD))
    # Flat: if positions had their own axis, Keras's loss on torch would transpose the logits.
    logits_NV = ops.reshape(logits_BTV, (-1, parameters["vocabulary_size"]))
    return TrainedModel(tokens_BT, ops.cast(logits_NV, recipe.wide))


def _split(x: Any, sizes: Sequence[int]) -> list[Any]:
    """The parts of the last axis."""
    if len(sizes) == 1:
        return [x]
    return list(ops.split(x, np.cumsum(sizes[:-1]).tolist(), axis=-1))


def _unseen(length: int, dtype: str) -> np.ndarray:
    """The mask that is added to scores, TT: minus infinity for positions that are not seen."""
    return np.triu(np.full((length, length), -np.inf, dtype), 1)


def _keras_name(name: str) -> str:
    """A canonical name without the slashes, which Keras does not allow."""
    return name.replace("/", "_")
