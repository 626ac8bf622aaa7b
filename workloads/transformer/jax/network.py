"""The decoder in JAX and Flax linen: the dtypes of each precision, and the trained layers.

Projections of one input are one matmul, and cuDNN's attention runs if possible. The tuned recipe
computes attention in blocks of queries. Flax keeps trained weights under `params`, and those that
LoRA freezes under `frozen`.

Shapes: B batch, T positions, S positions that are seen, D width, H heads, K head dimension, F width
of the MLP, V vocabulary, R rank, I inputs and O outputs of a projection. Kernels here are OI, since
JAX derives their gradient as OI. For an IO kernel it is transposed, and XLA's CPU backend then
computes the output's gradient a second time, which took a fifth of the step (jaxlib 0.10.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks.frameworks.jax.adapter import COMPUTE_DTYPES
from workloads.transformer import network

NO_VALUES = nn.initializers.zeros
"""Stands in for an initializer: `load` sets every value, and Flax only compares the shapes."""

MAX_QUERIES = 256
"""Queries per block of attention if tuned; keys after a block's last query are left out of it."""


class Numerics(NamedTuple):
    """The dtypes of a precision."""

    master: Any
    """Trained parameters and their optimizer."""
    compute: Any
    """Activations, matmuls and frozen weights."""
    wide: Any
    """Normalisation, rotation, softmax, logits, loss, and the arithmetic of the update."""


def numerics_of(precision: str) -> Numerics:
    """The dtypes of a precision."""
    compute = COMPUTE_DTYPES[precision]
    wide = jnp.promote_types(compute, jnp.float32)
    return Numerics(wide if precision == "bf16" else compute, compute, wide)


class Rotation(NamedTuple):
    """The angles of RoPE at every position; K is half of a head's dimension."""

    cos_T1K: jax.Array
    sin_T1K: jax.Array


@dataclass(frozen=True)
class Recipe:
    """Settings that all modules share."""

    parameters: Mapping[str, int]
    numerics: Numerics
    constants: Mapping[str, float]
    attend: Callable[..., jax.Array]
    recompute: bool

    @property
    def has_adapters(self) -> bool:
        """Whether the base is frozen and LoRA's adapters are trained."""
        return "lora_rank" in self.constants


def product(x_BTI: jax.Array, kernel_OI: jax.Array) -> jax.Array:
    """The matmul of the input and the kernel, in the input's dtype, BTO."""
    over_inputs = (((x_BTI.ndim - 1,), (1,)), ((), ()))
    return jax.lax.dot_general(x_BTI, kernel_OI.astype(x_BTI.dtype), over_inputs)


def attend(
    query_BTHK: jax.Array,
    key_BTHK: jax.Array,
    value_BTHK: jax.Array,
    *,
    max_queries: int | None = None,
) -> jax.Array:
    """Causal attention by matmuls, BTHK; each block of queries uses only the keys that it can see.

    By default all queries are one block. XLA has no kernel that skips masked positions. Without the
    tuned recipe's blocks a step of size small at 1024 positions takes a seventh longer on the CPU
    (jaxlib 0.10.2).
    """
    query, key, value = (x.swapaxes(1, 2) for x in (query_BTHK, key_BTHK, value_BTHK))
    num_queries = query.shape[2]
    block = max_queries or num_queries
    blocks = []
    for start in range(0, num_queries, block):
        end = start + block
        seen = key[:, :, :end], value[:, :, :end]
        blocks.append(_attend_block(query[:, :, start:end], *seen, start=start))
    return jnp.concatenate(blocks, axis=2).swapaxes(1, 2)


def _attend_block(
    query_BHTK: jax.Array, key_BHSK: jax.Array, value_BHSK: jax.Array, *, start: int
) -> jax.Array:
    """The attention of queries from position `start` on, BHTK.

    The softmax is in float32, in fp64 in float64, unlike in `jax.nn.dot_product_attention`.
    """
    wide = jnp.promote_types(query_BHTK.dtype, jnp.float32)
    length, num_seen = query_BHTK.shape[2], key_BHSK.shape[2]
    scores_BHTS = jnp.einsum("BHTK,BHSK->BHTS", query_BHTK, key_BHSK, preferred_element_type=wide)
    sees_TS = jnp.arange(start, start + length)[:, None] >= jnp.arange(num_seen)
    scores_BHTS = jnp.where(sees_TS, scores_BHTS * query_BHTK.shape[-1] ** -0.5, -jnp.inf)
    attention_BHTS = nn.softmax(scores_BHTS).astype(query_BHTK.dtype)
    return jnp.einsum("BHTS,BHSK->BHTK", attention_BHTS, value_BHSK)


attend_by_cudnn = partial(jax.nn.dot_product_attention, is_causal=True, implementation="cudnn")
"""Causal attention by cuDNN's flash attention, which takes operands of 16 bits only."""


def rotate(x_BTHK: jax.Array, rotation: Rotation) -> jax.Array:
    """RoPE on pairs of the head's halves, in the wide dtype, BTHK in its own dtype."""
    cos, sin = rotation
    first, second = jnp.split(x_BTHK.astype(cos.dtype), 2, axis=-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(turned, axis=-1).astype(x_BTHK.dtype)


def rotation_of(length: int, *, dimension: int, base: float, wide: Any) -> Rotation:
    """The tables for heads of this dimension, Su et al. (2021), section 3.4.2."""
    frequencies_K = base ** (-np.arange(0, dimension, 2) / dimension)
    angles_T1K = (np.arange(length)[:, None] * frequencies_K)[:, None]
    return Rotation(jnp.asarray(np.cos(angles_T1K), wide), jnp.asarray(np.sin(angles_T1K), wide))


def normalised(x: jax.Array, scale_D: jax.Array, *, epsilon: float, wide: Any) -> jax.Array:
    """RMSNorm, Zhang and Sennrich (2019), in the wide dtype; the result in the input's."""
    y = x.astype(wide)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + epsilon)
    return (y * scale_D.astype(wide)).astype(x.dtype)


class WeightedModule(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """A module whose weights are trained, or frozen if there are adapters."""

    recipe: Recipe

    def weight(self, name: str, *shape: int) -> jax.Array:
        """The weight of this name: a parameter if it is trained, else a frozen variable."""
        if not self.recipe.has_adapters:
            return self.param(name, NO_VALUES, shape, self.recipe.numerics.master)
        return self.variable("frozen", name, jnp.zeros, shape, self.recipe.numerics.compute).value


class Projections(WeightedModule):
    """Projections of one input as one matmul, without bias; LoRA freezes them and adds adapters."""

    parts: Sequence[network.Projection]

    @nn.compact
    def __call__(self, x_BTI: jax.Array) -> list[jax.Array]:
        """The output of each part, BTO."""
        sizes = [part.num_outputs for part in self.parts]
        kernel_OI = self.weight("kernel", sum(sizes), x_BTI.shape[-1])
        ends = list(itertools.accumulate(sizes))
        outputs = jnp.split(product(x_BTI, kernel_OI), ends[:-1], axis=-1)
        if not self.recipe.has_adapters:
            return outputs
        return [output + added for output, added in zip(outputs, self._adapt(x_BTI))]

    def _adapt(self, x_BTI: jax.Array) -> Iterator[jax.Array]:
        """The term that LoRA adds to each part's output: Hu et al. (2021), section 4.1."""
        constants, master = self.recipe.constants, self.recipe.numerics.master
        rank, num_parts = int(constants["lora_rank"]), len(self.parts)
        a_RI = self.param("lora_a", NO_VALUES, (num_parts * rank, x_BTI.shape[-1]), master)
        low_BTR = constants["lora_alpha"] / constants["lora_rank"] * product(x_BTI, a_RI)
        for part, low in zip(self.parts, jnp.split(low_BTR, num_parts, axis=-1)):
            b_OR = self.param(_adapter_name(part), NO_VALUES, (part.num_outputs, rank), master)
            yield product(low, b_OR)


class RMSNorm(WeightedModule):
    """A normalisation before attention, the MLP or the head."""

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """The normalised input in its dtype."""
        wide, epsilon = self.recipe.numerics.wide, self.recipe.constants["rms_norm_epsilon"]
        scale_D = self.weight("scale", x_BTD.shape[-1])
        return normalised(x_BTD, scale_D, epsilon=epsilon, wide=wide)


class Layer(WeightedModule):
    """Attention and MLP, each behind a normalisation and added to its input."""

    index: int

    @nn.compact
    def __call__(self, x_BTD: jax.Array, rotation: Rotation) -> jax.Array:
        """The layer's output, BTD."""
        groups = network.layer_projections(self.recipe.parameters, self.index)._asdict()

        def project(name: str, x_BTI: jax.Array) -> Any:
            return Projections(self.recipe, groups[name], name=name)(x_BTI)

        y_BTD = RMSNorm(self.recipe, name="attention_norm")(x_BTD)
        mixed_BTD = self._mixed(project("query_key_value", y_BTD), rotation)
        (output_BTD,) = project("output", mixed_BTD)
        x_BTD = x_BTD + output_BTD
        y_BTD = RMSNorm(self.recipe, name="mlp_norm")(x_BTD)
        gate_BTF, up_BTF = project("gate_up", y_BTD)
        (down_BTD,) = project("down", nn.silu(gate_BTF) * up_BTF)  # Shazeer (2020), SwiGLU
        return x_BTD + down_BTD

    def _mixed(self, parts: Sequence[jax.Array], rotation: Rotation) -> jax.Array:
        """The heads' attention from query, key and value, BTD."""
        heads = (*parts[0].shape[:2], self.recipe.parameters["num_heads"], -1)
        query, key, value = (part.reshape(heads) for part in parts)
        mixed = self.recipe.attend(rotate(query, rotation), rotate(key, rotation), value)
        return mixed.reshape(parts[0].shape)


class Decoder(WeightedModule):
    """The decoder from tokens to logits."""

    @nn.compact
    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        """The logits, BTV, in the wide dtype."""
        recipe, parameters = self.recipe, self.recipe.parameters
        shape = (parameters["vocabulary_size"], parameters["width"])
        rotation = rotation_of(
            tokens_BT.shape[1],
            dimension=parameters["width"] // parameters["num_heads"],
            base=recipe.constants["rotary_base"],
            wide=recipe.numerics.wide,
        )
        x_BTD = self.weight("table", *shape)[tokens_BT].astype(recipe.numerics.compute)
        layer_type = nn.remat(Layer) if recipe.recompute else Layer
        for index in range(parameters["num_layers"]):
            x_BTD = layer_type(recipe, index, name=f"layer{index}")(x_BTD, rotation)
        x_BTD = RMSNorm(recipe, name="final_norm")(x_BTD)
        return product(x_BTD, self.weight("head", *shape)).astype(recipe.numerics.wide)


class Held(NamedTuple):
    """The place of a canonical array."""

    path: str
    """Path of the array in Flax's tree."""
    rows: slice = slice(None)


def canonical(recipe: Recipe) -> Iterator[tuple[str, Held]]:
    """Every canonical name and its place; the parts of one array in their order."""
    yield "embedding/table", Held("table")
    yield "head/kernel", Held("head")
    yield "final_norm/scale", Held("final_norm/scale")
    for layer in range(recipe.parameters["num_layers"]):
        for norm in ("attention_norm", "mlp_norm"):
            yield f"layer{layer}/{norm}/scale", Held(f"layer{layer}/{norm}/scale")
        for name, parts in network.layer_projections(recipe.parameters, layer)._asdict().items():
            yield from _canonical_group(f"layer{layer}/{name}", parts, recipe)


def _canonical_group(
    path: str, parts: Sequence[network.Projection], recipe: Recipe
) -> Iterator[tuple[str, Held]]:
    row = 0
    for part in parts:
        yield f"{part.name}/kernel", Held(f"{path}/kernel", slice(row, row + part.num_outputs))
        row += part.num_outputs
    if not recipe.has_adapters:
        return
    rank = int(recipe.constants["lora_rank"])
    for index, part in enumerate(parts):
        rows = slice(index * rank, (index + 1) * rank)
        yield f"{part.name}/lora_a", Held(f"{path}/lora_a", rows)
        yield f"{part.name}/lora_b", Held(f"{path}/{_adapter_name(part)}")


def _adapter_name(part: network.Projection) -> str:
    return f"{part.name.rpartition('/')[2]}_lora_b"
