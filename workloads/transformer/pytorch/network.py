"""The decoder in PyTorch: the dtypes of each precision, and the trained layers.

Tuned: projections of the same input are one matmul, and attention is torch's own kernel.

Shapes: B batch, T positions, D width, H heads, K head dimension, F width of the MLP, V vocabulary,
R rank, I inputs and O outputs of a projection. Torch's kernels are OI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.frameworks.pytorch.adapter import COMPUTE_DTYPES, multiplies_bf16
from workloads.transformer import network


class Numerics(NamedTuple):
    """The dtypes of a precision."""

    master: torch.dtype
    """Trained parameters and their optimizer."""
    compute: torch.dtype
    """Activations, matmuls and frozen weights."""
    wide: torch.dtype
    """Normalisation, rotation, logits and loss."""
    operand: torch.dtype
    """Operands of matmuls. For bf16 on a CPU without bf16 units it is float32, in which such a unit
    accumulates: torch's own bf16 matmuls are many times slower there."""


def numerics_of(*, precision: str, device: str) -> Numerics:
    """The dtypes of a precision on a device."""
    compute = COMPUTE_DTYPES[precision]
    wide = torch.promote_types(compute, torch.float32)
    widens = compute == torch.bfloat16 and device == "cpu" and not multiplies_bf16()
    return Numerics(
        master=wide if precision == "bf16" else compute,
        compute=compute,
        wide=wide,
        operand=wide if widens else compute,
    )


def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in this dtype; skips the call of torch if nothing changes, since it takes time."""
    return x if x.dtype == dtype else x.to(dtype)


def normalised(
    x: torch.Tensor, scale_D: torch.Tensor, *, epsilon: float, numerics: Numerics
) -> torch.Tensor:
    """RMSNorm, Zhang and Sennrich (2019), in the wide dtype, returned in the compute dtype."""
    scale_D = cast(scale_D, numerics.wide)
    y = F.rms_norm(cast(x, numerics.wide), scale_D.shape, scale_D, epsilon)
    return cast(y, numerics.compute)


def rotary_angles(length: int, *, dimension: int, base: float) -> np.ndarray:
    """The angles of RoPE at the first positions, TK, where K is half of a head's dimension.

    Su et al. (2021), section 3.4.2.
    """
    frequencies_K = base ** (-np.arange(0, dimension, 2) / dimension)
    return np.asarray(np.arange(length)[:, None] * frequencies_K)


class Adapters(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """LoRA adapters for projections of one input: Hu et al. (2021), section 4.1."""

    def __init__(
        self, parts: Sequence[network.Projection], numerics: Numerics, *, rank: int
    ) -> None:
        super().__init__()
        num_inputs, master = parts[0].num_inputs, numerics.master
        self.rank = rank
        self.numerics = numerics
        self.a_RI = nn.Parameter(torch.empty(len(parts) * rank, num_inputs, dtype=master))
        self.b_OR = nn.ParameterList(
            nn.Parameter(torch.empty(part.num_outputs, rank, dtype=master)) for part in parts
        )

    def forward(self, x_BTI: torch.Tensor, *, factor: float) -> list[torch.Tensor]:
        """The term that is added to each part's output."""
        low_BTR = factor * _product(x_BTI, self.a_RI, self.numerics)
        return [
            _product(low_BTR[..., i * self.rank : (i + 1) * self.rank], b_OR, self.numerics)
            for i, b_OR in enumerate(self.b_OR)
        ]


class Projections(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Projections of one input as one matmul, without bias; LoRA freezes them and adds adapters."""

    def __init__(
        self, parts: Sequence[network.Projection], numerics: Numerics, lora: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.sizes = [part.num_outputs for part in parts]
        self.numerics = numerics
        shape = (sum(self.sizes), parts[0].num_inputs)
        self.weight_OI = _weight(shape, numerics, is_frozen=bool(lora))
        self.adapters = None
        if lora:
            self.adapters = Adapters(parts, numerics, rank=int(lora["lora_rank"]))
            self.factor = lora["lora_alpha"] / lora["lora_rank"]

    def forward(self, x_BTI: torch.Tensor) -> list[torch.Tensor]:
        """The output of each part, BTO."""
        outputs = list(_product(x_BTI, self.weight_OI, self.numerics).split(self.sizes, dim=-1))
        if self.adapters is None:
            return outputs
        added = self.adapters(x_BTI, factor=self.factor)
        return [output + more for output, more in zip(outputs, added)]

    def canonical(self) -> Iterator[tuple[str, torch.Tensor, slice]]:
        """Each kernel's name, the parameter that contains it, and its rows there."""
        row = 0
        for part in self.parts:
            yield f"{part.name}/kernel", self.weight_OI, slice(row, row + part.num_outputs)
            row += part.num_outputs
        if self.adapters is None:
            return
        rank = self.adapters.rank
        for index, part in enumerate(self.parts):
            rows = slice(index * rank, (index + 1) * rank)
            yield f"{part.name}/lora_a", self.adapters.a_RI, rows
            yield f"{part.name}/lora_b", self.adapters.b_OR[index], slice(None)


class RMSNorm(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """RMSNorm, Zhang and Sennrich (2019), in the wide dtype; frozen if there are adapters."""

    def __init__(self, name: str, recipe: Recipe) -> None:
        super().__init__()
        self.name = name
        self.numerics = recipe.numerics
        self.epsilon = recipe.constants["rms_norm_epsilon"]
        shape = (recipe.parameters["width"],)
        self.scale_D = _weight(shape, recipe.numerics, is_frozen=bool(recipe.lora))

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """The normalised input in its dtype."""
        return normalised(x_BTD, self.scale_D, epsilon=self.epsilon, numerics=self.numerics)


class Recipe(NamedTuple):
    """Settings that all layers share."""

    parameters: Mapping[str, int]
    numerics: Numerics
    constants: Mapping[str, float]

    @property
    def lora(self) -> Mapping[str, float]:
        """The adapters' constants; empty if every weight is trained."""
        return {name: v for name, v in self.constants.items() if name.startswith("lora_")}

    def projections(self, parts: Sequence[network.Projection]) -> Projections:
        """Projections of one input, with adapters if the case has them."""
        return Projections(parts, self.numerics, self.lora)


class Layer(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Attention and MLP, each behind a normalisation and added to its input."""

    def __init__(self, recipe: Recipe, index: int) -> None:
        super().__init__()
        parts = network.layer_projections(recipe.parameters, index)
        self.num_heads = recipe.parameters["num_heads"]
        self.numerics = recipe.numerics
        self.attention_norm = RMSNorm(f"layer{index}/attention_norm", recipe)
        self.query_key_value = recipe.projections(parts.query_key_value)
        self.output = recipe.projections(parts.output)
        self.mlp_norm = RMSNorm(f"layer{index}/mlp_norm", recipe)
        self.gate_up = recipe.projections(parts.gate_up)
        self.down = recipe.projections(parts.down)

    def forward(self, x_BTD: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """The layer's output, BTD."""
        x_BTD = x_BTD + self._attention(self.attention_norm(x_BTD), rotation)
        gate_BTF, up_BTF = self.gate_up(self.mlp_norm(x_BTD))
        (down_BTD,) = self.down(F.silu(gate_BTF) * up_BTF)  # Shazeer (2020), SwiGLU
        return x_BTD + down_BTD

    def _attention(self, x_BTD: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)) for part in self.query_key_value(x_BTD)
        )
        mixed_BHTK = attend(
            rotate(query, rotation).transpose(1, 2),
            rotate(key, rotation).transpose(1, 2),
            value.transpose(1, 2),
            self.numerics,
        )
        (output_BTD,) = self.output(mixed_BHTK.transpose(1, 2).flatten(-2))
        return output_BTD


class Rotation(NamedTuple):
    """The angles of RoPE at every position."""

    cos_T1K: torch.Tensor
    sin_T1K: torch.Tensor


def rotation_of(recipe: Recipe, length: int, device: str) -> Rotation:
    """The tables for sequences of this length; K is half of a head's dimension."""
    dimension = recipe.parameters["width"] // recipe.parameters["num_heads"]
    base = recipe.constants["rotary_base"]
    angles_T1K = rotary_angles(length, dimension=dimension, base=base)[:, None]
    return Rotation(
        *(
            torch.tensor(table, device=device, dtype=recipe.numerics.wide)
            for table in (np.cos(angles_T1K), np.sin(angles_T1K))
        )
    )


def rotate(x_BTHK: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """RoPE on pairs of the head's halves, in the wide dtype, BTHK in its own dtype."""
    first, second = x_BTHK.to(rotation.cos_T1K.dtype).chunk(2, dim=-1)
    cos, sin = rotation
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(turned, dim=-1).to(x_BTHK.dtype)


def attend(
    query_BHTK: torch.Tensor,
    key_BHTK: torch.Tensor,
    value_BHTK: torch.Tensor,
    numerics: Numerics,
) -> torch.Tensor:
    """Causal attention by the kernel that torch chooses for these tensors, BHTK."""
    query, key, value = (cast(one, numerics.operand) for one in (query_BHTK, key_BHTK, value_BHTK))
    mixed_BHTK = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return cast(mixed_BHTK, numerics.compute)


def _product(x_BTI: torch.Tensor, weight_OI: torch.Tensor, numerics: Numerics) -> torch.Tensor:
    """The matmul of the input and the kernel, in the compute dtype, BTO."""
    weight_OI = cast(cast(weight_OI, numerics.compute), numerics.operand)
    return cast(F.linear(cast(x_BTI, numerics.operand), weight_OI), numerics.compute)


def _weight(shape: Sequence[int], numerics: Numerics, *, is_frozen: bool) -> nn.Parameter:
    dtype = numerics.compute if is_frozen else numerics.master
    return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=not is_frozen)


class Decoder(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The decoder from tokens to logits."""

    def __init__(self, recipe: Recipe, *, recompute: bool) -> None:
        super().__init__()
        parameters, numerics = recipe.parameters, recipe.numerics
        is_frozen = bool(recipe.lora)
        shape = (parameters["vocabulary_size"], parameters["width"])
        self.numerics = numerics
        self.recompute = recompute
        self.table_VD = _weight(shape, numerics, is_frozen=is_frozen)
        self.layers = nn.ModuleList(Layer(recipe, i) for i in range(parameters["num_layers"]))
        self.final_norm = RMSNorm("final_norm", recipe)
        self.head_VD = _weight(shape, numerics, is_frozen=is_frozen)

    def forward(self, tokens_BT: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """The logits, BTV, in the wide dtype."""
        x_BTD = F.embedding(tokens_BT, self.table_VD).to(self.numerics.compute)
        for layer in self.layers:
            if self.recompute:
                # Nothing here is random: the generators' states need not be saved and restored.
                x_BTD = checkpoint(
                    layer, x_BTD, rotation, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BTD = layer(x_BTD, rotation)
        logits_BTV = _product(self.final_norm(x_BTD), self.head_VD, self.numerics)
        return logits_BTV.to(self.numerics.wide)

    def canonical(self) -> Iterator[tuple[str, torch.Tensor, slice]]:
        """Every canonical name, the parameter that contains its array, and the rows there."""
        yield "embedding/table", self.table_VD, slice(None)
        yield "head/kernel", self.head_VD, slice(None)
        for module in self.modules():
            if isinstance(module, RMSNorm):
                yield f"{module.name}/scale", module.scale_D, slice(None)
            elif isinstance(module, Projections):
                yield from module.canonical()
