"""The decoder in TensorFlow, from a batch to its loss: raw operations, no Keras.

Projections of the same input are one matmul, and queries and keys are rotated together. The tuned
recipe pads the matmuls of weight gradients.

Shapes: B batch, T positions, N all positions of a batch (B T), D width, H heads, K head dimension,
F width of the MLP, V vocabulary, R rank, I inputs and O outputs of a projection. Activations are
ND and kernels IO: TensorFlow's matmul of two matrices takes both without a transpose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.contract.case import TUNED
from benchmarks.contract.program import Problem
from benchmarks.frameworks.tensorflow.adapter import multiplies_bf16
from workloads.transformer import network

ALIASED_BYTES = 2**14
"""Rows whose distance is a multiple of this map to the same few sets of a CPU's caches."""
LINE_BYTES = 64
"""Size of a line of a CPU's caches."""


class Numerics(NamedTuple):
    """The dtypes of a precision."""

    master: Any
    """Trained parameters, their gradients and their optimizer."""
    compute: Any
    """Activations, matmuls and frozen weights."""
    wide: Any
    """Normalisation, rotation, softmax, loss, and the optimizer's arithmetic."""
    widens_products: bool = False
    """Whether matmuls of rounded operands run in float32, in which a bf16 unit accumulates: without
    such a unit the CPU's own bf16 is two to ten times slower."""


def numerics_of(*, precision: str, device: str) -> Numerics:
    """The dtypes of a precision on a device."""
    if precision == "fp64":
        return Numerics(tf.float64, tf.float64, tf.float64)
    if precision not in ("bf16", "bf16_pure"):
        return Numerics(tf.float32, tf.float32, tf.float32)
    return Numerics(
        tf.bfloat16 if precision == "bf16_pure" else tf.float32,
        tf.bfloat16,
        tf.float32,
        widens_products=device == "cpu" and not multiplies_bf16(),
    )


class Pack(NamedTuple):
    """Projections of one input; their kernels are side by side in one variable."""

    name: str
    parts: tuple[network.Projection, ...]

    def canonical(self, *, has_adapters: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each variable's name with the canonical names of the arrays in it."""
        parts = tuple(part.name for part in self.parts)
        yield f"{self.name}/kernel", tuple(f"{part}/kernel" for part in parts)
        if has_adapters:
            yield f"{self.name}/lora_a", tuple(f"{part}/lora_a" for part in parts)
            yield from ((f"{part}/lora_b", (f"{part}/lora_b",)) for part in parts)


class Layer(NamedTuple):
    """One layer's projections; its normalisations are named after it."""

    name: str
    query_key_value: Pack
    output: Pack
    gate_up: Pack
    down: Pack

    def canonical(self, *, has_adapters: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each variable's name with the canonical names of the arrays in it."""
        for norm in (f"{self.name}/attention_norm/scale", f"{self.name}/mlp_norm/scale"):
            yield norm, (norm,)
        for pack in (self.query_key_value, self.output, self.gate_up, self.down):
            yield from pack.canonical(has_adapters=has_adapters)


def layer_of(parameters: Mapping[str, int], index: int) -> Layer:
    """The layer of this index."""
    parts, name = network.layer_projections(parameters, index), f"layer{index}"
    return Layer(
        name,
        query_key_value=Pack(f"{name}/attention/query_key_value", parts.query_key_value),
        output=Pack(f"{name}/attention/output", parts.output),
        gate_up=Pack(f"{name}/mlp/gate_up", parts.gate_up),
        down=Pack(f"{name}/mlp/down", parts.down),
    )


class Rotation(NamedTuple):
    """RoPE of query and key, each with a row of factors: x * cos + (x with swapped halves) * sin.

    The query's row includes the scale of the scores, 1 / sqrt(K).
    """

    cos_211TK: Any
    sin_211TK: Any


def rotation_of(problem: Problem, dtype: Any) -> Rotation:
    """The rotation's tables: Su et al. (2021), section 3.4.2."""
    dimension = problem.parameters["width"] // problem.parameters["num_heads"]
    exponents = np.arange(0, dimension, 2) / dimension
    frequencies = problem.hyperparameters["rotary_base"] ** -exponents
    angles = np.arange(network.sequence_length(problem.case.work))[:, None] * frequencies
    scales_2111 = np.array([1 / math.sqrt(dimension), 1.0]).reshape(2, 1, 1, 1, 1)
    cos_TK = np.concatenate([np.cos(angles), np.cos(angles)], axis=-1)
    sin_TK = np.concatenate([-np.sin(angles), np.sin(angles)], axis=-1)
    return Rotation(
        tf.constant(scales_2111 * cos_TK, dtype), tf.constant(scales_2111 * sin_TK, dtype)
    )


def causal_mask(length: int, dtype: Any) -> Any:
    """The mask that is added to scores, TT: minus infinity for positions that are not seen."""
    from_own_on_TT = tf.linalg.band_part(
        tf.fill((length, length), tf.constant(-np.inf, dtype)), 0, -1
    )
    return tf.linalg.set_diag(from_own_on_TT, tf.zeros(length, dtype))


class Decoder:
    """The weights as variables, and the network from a batch to its loss."""

    def __init__(self, problem: Problem) -> None:
        place, way = problem.case.place, problem.case.way
        parameters, constants = problem.parameters, problem.hyperparameters
        length = network.sequence_length(problem.case.work)
        self.numerics = numerics_of(precision=way.precision, device=place.device)
        self.recomputes = dict(way.options)["recompute"] == "full"
        self.variables: dict[str, Any] = {}
        self._layers = [layer_of(parameters, i) for i in range(parameters["num_layers"])]
        self._rank = constants.get("lora_rank")
        self._lora_factor = constants["lora_alpha"] / self._rank if self._rank else None
        num_heads = parameters["num_heads"]
        self._heads_shape = (length, 3, num_heads, parameters["width"] // num_heads)
        self._epsilon = constants["rms_norm_epsilon"]
        self._rotation = rotation_of(problem, self.numerics.wide)
        self._mask_TT = causal_mask(length, self.numerics.wide)
        self._pads_gradients = way.recipe == TUNED

    def canonical(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each variable's name with the canonical names of the arrays in it, side by side."""
        for name in ("embedding/table", "final_norm/scale", "head/kernel"):
            yield name, (name,)
        for layer in self._layers:
            yield from layer.canonical(has_adapters=self._rank is not None)

    def assign(self, name: str, value: Any) -> None:
        """Set a variable's value; an existing variable is kept, so that nothing is traced again."""
        is_trained = self._rank is None or network.is_adapter(name)
        value = tf.cast(value, self.numerics.master if is_trained else self.numerics.compute)
        if name in self.variables:
            self.variables[name].assign(value)
        else:
            label = name.replace("/", "_")
            self.variables[name] = tf.Variable(value, trainable=is_trained, name=label)

    def loss(self, tokens_BT: Any, labels_BT: Any) -> Any:
        """The mean cross-entropy over all positions, from logits in the wide dtype."""
        x_ND = self._normalised("final_norm", self.hidden(tokens_BT))
        logits_NV = tf.cast(self._product(x_ND, "head/kernel"), self.numerics.wide)
        labels_N = tf.reshape(labels_BT, (-1,))
        losses_N = tf.nn.sparse_softmax_cross_entropy_with_logits(labels_N, logits_NV)
        return tf.reduce_mean(losses_N)

    def hidden(self, tokens_BT: Any) -> Any:
        """The last layer's output, ND."""
        rows_ND = tf.gather(self.variables["embedding/table"], tf.reshape(tokens_BT, (-1,)))
        x_ND = tf.cast(rows_ND, self.numerics.compute)
        for layer in self._layers:
            run = partial(self._run, layer)
            x_ND = tf.recompute_grad(run)(x_ND) if self.recomputes else run(x_ND)
        return x_ND

    def _run(self, layer: Layer, x_ND: Any) -> Any:
        y_ND = self._normalised(f"{layer.name}/attention_norm", x_ND)
        x_ND = x_ND + self._attention(layer, y_ND)
        y_ND = self._normalised(f"{layer.name}/mlp_norm", x_ND)
        gate_NF, up_NF = tf.split(self._projected(layer.gate_up, y_ND), 2, axis=-1)
        # SwiGLU, Shazeer (2020); the gradient of `tf.nn.silu` would compute the sigmoid again.
        hidden_NF = gate_NF * tf.sigmoid(gate_NF) * up_NF
        return x_ND + self._projected(layer.down, hidden_NF)

    def _attention(self, layer: Layer, x_ND: Any) -> Any:
        compute, wide = self.numerics.compute, self.numerics.wide
        packed_NO = self._projected(layer.query_key_value, x_ND)
        packed_BT3HK = tf.reshape(packed_NO, (-1, *self._heads_shape))
        query_key_2BHTK, value_1BHTK = tf.split(tf.transpose(packed_BT3HK, (2, 0, 3, 1, 4)), (2, 1))
        rotated_2BHTK = rotated(tf.cast(query_key_2BHTK, wide), self._rotation)
        query_BHTK, key_BHTK = tf.unstack(tf.cast(rotated_2BHTK, compute))
        mixed_BHTK = attend(
            query_BHTK, key_BHTK, value_1BHTK[0], mask_TT=self._mask_TT, numerics=self.numerics
        )
        mixed_BTHK = tf.transpose(mixed_BHTK, (0, 2, 1, 3))
        return self._projected(layer.output, tf.reshape(mixed_BTHK, x_ND.shape))

    def _projected(self, pack: Pack, x_NI: Any) -> Any:
        """The outputs of the pack's parts side by side, NO; LoRA is Hu et al. (2021), 4.1."""
        outputs_NO = self._product(x_NI, f"{pack.name}/kernel")
        if self._rank is None:
            return outputs_NO
        lows_NR = self._lora_factor * self._product(x_NI, f"{pack.name}/lora_a")
        added_NO = [
            self._product(low_NR, f"{part.name}/lora_b")
            for part, low_NR in zip(pack.parts, tf.split(lows_NR, len(pack.parts), axis=-1))
        ]
        return outputs_NO + (tf.concat(added_NO, axis=-1) if len(added_NO) > 1 else added_NO[0])

    def _product(self, x_NI: Any, name: str) -> Any:
        """The matmul of the input and a weight, in the compute dtype, NO."""
        variable, numerics = self.variables[name], self.numerics
        weight_IO = tf.cast(variable, numerics.compute)
        if numerics.widens_products:
            x_NI, weight_IO = tf.cast(x_NI, numerics.wide), tf.cast(weight_IO, numerics.wide)
        row_bytes = weight_IO.shape[-1] * weight_IO.dtype.size
        pads = self._pads_gradients and variable.trainable and row_bytes % ALIASED_BYTES == 0
        return tf.cast((multiply_padded if pads else tf.matmul)(x_NI, weight_IO), numerics.compute)

    def _normalised(self, name: str, x_ND: Any) -> Any:
        wide = self.numerics.wide
        scale_D = tf.cast(self.variables[f"{name}/scale"], wide)
        y_ND = normalised(tf.cast(x_ND, wide), scale_D, epsilon=self._epsilon)
        return tf.cast(y_ND, self.numerics.compute)


def normalised(x_ND: Any, scale_D: Any, *, epsilon: float) -> Any:
    """RMSNorm, Zhang and Sennrich (2019), ND."""
    mean_N1 = tf.reduce_mean(tf.square(x_ND), axis=-1, keepdims=True)
    return x_ND * tf.math.rsqrt(mean_N1 + epsilon) * scale_D


def rotated(x_2BHTK: Any, rotation: Rotation) -> Any:
    """RoPE on pairs of the head's halves; see `Rotation`."""
    first, second = tf.split(x_2BHTK, 2, axis=-1)
    exchanged_2BHTK = tf.concat([second, first], axis=-1)
    return x_2BHTK * rotation.cos_211TK + exchanged_2BHTK * rotation.sin_211TK


def attend(
    query_BHTK: Any, key_BHTK: Any, value_BHTK: Any, *, mask_TT: Any, numerics: Numerics
) -> Any:
    """The attended values, BHTK, from scaled queries; TensorFlow has no fused kernel for this."""
    operand = numerics.wide if numerics.widens_products else numerics.compute
    query_BHTK, key_BHTK, value_BHTK = (
        tf.cast(one, operand) for one in (query_BHTK, key_BHTK, value_BHTK)
    )
    scores_BHTT = tf.matmul(query_BHTK, key_BHTK, transpose_b=True)
    attention_BHTT = tf.nn.softmax(tf.cast(scores_BHTT, numerics.wide) + mask_TT)
    mixed_BHTK = tf.matmul(tf.cast(attention_BHTT, operand), value_BHTK)
    return tf.cast(mixed_BHTK, numerics.compute)


@tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow is untyped here
def multiply_padded(x_NI: Any, weight_IO: Any) -> Any:
    """The matmul, NO, whose weight gradient pads its rows so that they do not alias in the caches.

    If rows alias, both oneDNN and Eigen take up to twice the time for that matmul.
    """

    def gradients(dy_NO: Any) -> tuple[Any, Any]:
        padded = tf.pad(dy_NO, [[0, 0], [0, LINE_BYTES // dy_NO.dtype.size]])
        dweight_IO = tf.matmul(x_NI, padded, transpose_a=True)[:, : dy_NO.shape[-1]]
        return tf.matmul(dy_NO, weight_IO, transpose_b=True), dweight_IO

    return tf.matmul(x_NI, weight_IO), gradients
