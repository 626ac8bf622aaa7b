"""The decoder in MLX without weights: the dtypes of each precision, and a layer's operations.

Tuned: projections of the same input are one matmul, and normalisation, rotation and attention are
MLX's own kernels. Weight matrices are stored OI, as in MLX's Linear.

Shapes: B batch, T positions, S positions that are seen, D width, H heads, K head dimension, F width
of the MLP, V vocabulary, R rank, I inputs and O outputs of a projection.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple

import mlx.core as mx
import numpy as np

from benchmarks.contract.program import Arrays, Problem
from benchmarks.frameworks.mlx.adapter import COMPUTE_DTYPES
from workloads.transformer import network

COMPOSED_ATTENTION = {
    "Softmax": "mx.fast, composed of products and softmax",
    "Expm1": "float64's own, composed of products and expm1",
}
"""Operations that mark unfused attention in a recorded step, each with its description."""


class Numerics(NamedTuple):
    """The dtypes of a precision."""

    master: Any
    """Trained parameters and their optimizer."""
    compute: Any
    """Activations, matmuls, frozen weights and the cache. In bf16, MLX's matmuls accumulate in
    float32."""
    wide: Any
    """Normalisation, logits and the arithmetic of an update."""
    fast: Any
    """Input dtype of rotation, attention and loss in mx.fast. Its GPU kernels compute in float32
    for every input; on the CPU it is composed of operations in the input's dtype."""


def numerics_of(*, precision: str, device: str) -> Numerics:
    """The dtypes of a precision on a device."""
    compute = COMPUTE_DTYPES[precision]
    wide = mx.float64 if compute == mx.float64 else mx.float32
    return Numerics(
        master=wide if precision == "bf16" else compute,
        compute=compute,
        wide=wide,
        fast=wide if device == "cpu" else compute,
    )


class Operations(NamedTuple):
    """The operations of a decoder other than its projections."""

    normalise: Callable[[mx.array, mx.array], mx.array]
    """Maps x BTD and scale D to the normalised x: Zhang and Sennrich (2019)."""
    rotate: Callable[[mx.array, int | mx.array], mx.array]
    """RoPE of x BHTK, whose first position is the second argument, on pairs of its halves: Su et
    al. (2021), section 3.4.2."""
    attend: Callable[[mx.array, mx.array, mx.array, str | mx.array | None], mx.array]
    """Maps query BHTK, keys and values BHSK to attention BHTK; a query sees the keys up to its own
    position (`causal`), those for which an array is true, or all (None)."""
    gate: Callable[[mx.array], mx.array]
    """Maps x to x sigmoid(x)."""


def fast_operations(numerics: Numerics, constants: Mapping[str, float]) -> Operations:
    """MLX's own kernels, if the device has them."""
    _, compute, wide, fast = numerics
    epsilon, base = constants["rms_norm_epsilon"], constants["rotary_base"]

    def normalise(x_BTD: mx.array, scale_D: mx.array) -> mx.array:
        # Wide on a GPU too: its kernel rounds to the input's dtype before it scales.
        return mx.fast.rms_norm(x_BTD.astype(wide), scale_D.astype(wide), epsilon).astype(compute)

    def rotate(x_BHTK: mx.array, start: int | mx.array) -> mx.array:
        dimension = x_BHTK.shape[-1]
        return mx.fast.rope(
            x_BHTK.astype(fast), dimension, traditional=False, base=base, scale=1.0, offset=start
        ).astype(compute)

    def attend(
        query: mx.array, keys: mx.array, values: mx.array, mask: str | mx.array | None
    ) -> mx.array:
        scale = 1 / math.sqrt(query.shape[-1])
        return mx.fast.scaled_dot_product_attention(
            query.astype(fast), keys.astype(fast), values.astype(fast), scale=scale, mask=mask
        ).astype(compute)

    def gate(x: mx.array) -> mx.array:
        return x * mx.sigmoid(x)  # MLX compiles nn.silu even in eager execution

    return Operations(normalise, rotate, attend, gate)


def float64_operations(constants: Mapping[str, float], num_positions: int) -> Operations:
    """The same operations to all digits of float64, for this number of positions; parity only.

    In float64, MLX 0.32.4 computes mx.fast in float32, and exp, sigmoid, softmax and cos to seven
    digits, but expm1, tanh and rsqrt to all digits.
    """

    def normalise(x_BTD: mx.array, scale_D: mx.array) -> mx.array:
        mean_BT1 = mx.square(x_BTD).mean(-1, keepdims=True)
        return x_BTD * mx.rsqrt(mean_BT1 + constants["rms_norm_epsilon"]) * scale_D

    def rotate(x_BHTK: mx.array, start: int | mx.array) -> mx.array:
        length, dimension = x_BHTK.shape[-2:]
        frequencies = constants["rotary_base"] ** (-np.arange(0, dimension, 2) / dimension)
        angles = np.arange(num_positions)[:, None] * frequencies
        rows = start + mx.arange(length)
        cos, sin = (mx.array(table, mx.float64)[rows] for table in (np.cos(angles), np.sin(angles)))
        first, second = mx.split(x_BHTK, 2, -1)
        return mx.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    def attend(
        query: mx.array, keys: mx.array, values: mx.array, mask: str | mx.array | None
    ) -> mx.array:
        scores_BHTS = query @ keys.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
        if isinstance(mask, str):
            mask = mx.tri(query.shape[-2], dtype=mx.bool_)
        if mask is not None:
            scores_BHTS = mx.where(mask, scores_BHTS, -math.inf)
        weights_BHTS = mx.expm1(below_largest(scores_BHTS)) + 1
        return weights_BHTS @ values / weights_BHTS.sum(-1, keepdims=True)

    def gate(x: mx.array) -> mx.array:
        return x * (0.5 + 0.5 * mx.tanh(0.5 * x))

    return Operations(normalise, rotate, attend, gate)


def below_largest(x: mx.array) -> mx.array:
    """The input minus the maximum over its last axis; the maximum gets no gradient."""
    return x - mx.stop_gradient(x.max(-1, keepdims=True))


@dataclass(frozen=True)
class Group:
    """Projections of one input: their kernels are one array, and so are their adapters' A."""

    name: str
    """The canonical names joined: layer0/mlp/gate+up."""
    parts: tuple[network.Projection, ...]
    outputs: tuple[slice, ...]
    """The columns of each part's outputs."""
    starts: tuple[int, ...]
    """The first column of each part except the first part."""


def group_of(parts: tuple[network.Projection, ...]) -> Group:
    """The group of these projections."""
    prefix = parts[0].name.rpartition("/")[0]
    names = "+".join(part.name.rpartition("/")[2] for part in parts)
    ends = np.cumsum([part.num_outputs for part in parts]).tolist()
    outputs = tuple(slice(end - part.num_outputs, end) for part, end in zip(parts, ends))
    return Group(f"{prefix}/{names}", parts, outputs, starts=tuple(ends[:-1]))


class Layer(NamedTuple):
    """The projections of one layer."""

    name: str
    query_key_value: Group
    output: Group
    gate_up: Group
    down: Group


def layer_of(parameters: Mapping[str, int], index: int) -> Layer:
    """A layer of this size."""
    return Layer(f"layer{index}", *map(group_of, network.layer_projections(parameters, index)))


class Held(NamedTuple):
    """The place of a canonical array."""

    name: str
    columns: slice = slice(None)
    """Columns in canonical layout; if the array is transposed, its rows here."""

    @property
    def is_turned(self) -> bool:
        """Whether it is stored OI, while its canonical layout is IO."""
        return self.name.endswith("/kernel")


def held_arrays(layers: Sequence[Layer], *, rank: int | None) -> Iterator[tuple[str, Held]]:
    """Every canonical name and its place; with adapters of this rank, if any."""
    norms = [f"{layer.name}/{norm}" for layer in layers for norm in ("attention_norm", "mlp_norm")]
    scales = [f"{norm}/scale" for norm in (*norms, "final_norm")]
    for name in ("embedding/table", "head/kernel", *scales):
        yield name, Held(name)
    for group in (group for layer in layers for group in layer[1:]):
        for index, (part, columns) in enumerate(zip(group.parts, group.outputs)):
            yield f"{part.name}/kernel", Held(f"{group.name}/kernel", columns)
            if rank is not None:
                columns = slice(index * rank, (index + 1) * rank)
                yield f"{part.name}/lora_a", Held(f"{group.name}/lora_a", columns)
                yield f"{part.name}/lora_b", Held(f"{part.name}/lora_b")


def joined(held: Mapping[str, Held], weights: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """Every stored array in canonical layout, made of canonical arrays side by side."""
    parts: dict[str, list[str]] = {}
    for canonical, one in held.items():
        parts.setdefault(one.name, []).append(canonical)
    for name, names in parts.items():
        yield name, np.concatenate([weights[one] for one in names], -1)


class Decoder:
    """The network with given weights; the caller passes in the attention of a layer's heads."""

    def __init__(self, problem: Problem, *, num_positions: int) -> None:
        parameters, constants, way = problem.parameters, problem.hyperparameters, problem.case.way
        self.numerics = numerics_of(precision=way.precision, device=problem.case.place.device)
        self.layers = [layer_of(parameters, i) for i in range(parameters["num_layers"])]
        self.rank = int(constants["lora_rank"]) if "lora_rank" in constants else None
        self._adapter_factor = 0.0 if self.rank is None else constants["lora_alpha"] / self.rank
        self._num_heads = parameters["num_heads"]
        if self.numerics.wide == mx.float64:
            self.operations = float64_operations(constants, num_positions)
        else:
            self.operations = fast_operations(self.numerics, constants)

    def embed(self, arrays: Mapping[str, mx.array], tokens_BT: mx.array) -> mx.array:
        """The tokens' rows of the table, BTD."""
        return self._narrow(arrays["embedding/table"][tokens_BT])

    def pass_layer(
        self,
        layer: Layer,
        arrays: Mapping[str, mx.array],
        x_BTD: mx.array,
        attend: Callable[[mx.array, mx.array, mx.array], mx.array],
    ) -> mx.array:
        """The layer's output, BTD.

        `attend` maps query, key and value BHTK, not rotated yet, to attention's output BHTK.
        """
        normalise, project = self.operations.normalise, self._project
        y_BTD = normalise(x_BTD, arrays[f"{layer.name}/attention_norm/scale"])
        query, key, value = (
            mx.unflatten(part_BTD, -1, (self._num_heads, -1)).swapaxes(1, 2)
            for part_BTD in project(arrays, layer.query_key_value, y_BTD)
        )
        mixed_BTD = attend(query, key, value).swapaxes(1, 2).flatten(-2)
        x_BTD = x_BTD + project(arrays, layer.output, mixed_BTD)[0]
        y_BTD = normalise(x_BTD, arrays[f"{layer.name}/mlp_norm/scale"])
        gate_BTF, up_BTF = project(arrays, layer.gate_up, y_BTD)
        hidden_BTF = self.operations.gate(gate_BTF) * up_BTF  # Shazeer (2020), SwiGLU
        return x_BTD + project(arrays, layer.down, hidden_BTF)[0]

    def logits(self, arrays: Mapping[str, mx.array], x_BTD: mx.array) -> mx.array:
        """The logits from the last layer's output, BTV in the compute dtype."""
        y_BTD = self.operations.normalise(x_BTD, arrays["final_norm/scale"])
        return y_BTD @ self._narrow(arrays["head/kernel"]).T

    def _project(
        self, arrays: Mapping[str, mx.array], group: Group, x_BTI: mx.array
    ) -> list[mx.array]:
        """The output of each part, BTO; LoRA is Hu et al. (2021), section 4.1."""
        y_BTO = x_BTI @ self._narrow(arrays[f"{group.name}/kernel"]).T
        outputs = y_BTO.split(group.starts, -1)
        if self.rank is None:
            return outputs
        low_BTR = self._adapter_factor * (x_BTI @ self._narrow(arrays[f"{group.name}/lora_a"]))
        lows = low_BTR.split(len(group.parts), -1)
        kernels = [self._narrow(arrays[f"{part.name}/lora_b"]) for part in group.parts]
        return [mx.addmm(*each) for each in zip(outputs, lows, kernels)]

    def _narrow(self, array: mx.array) -> mx.array:
        return array.astype(self.numerics.compute)


def attention_of(outputs: Sequence[mx.array], marks: Mapping[str, str]) -> str:
    """The description of attention in this recorded step: that of the first mark found in it."""
    graph = io.StringIO()
    mx.export_to_dot(graph, *outputs)
    return next((found for mark, found in marks.items() if mark in graph.getvalue()), "unknown")
