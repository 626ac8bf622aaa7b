"""The decoder's fine-tune in PyTorch, in its fastest idiom: every weight, or LoRA's adapters alone.

Tuned: projections of the same input are one product, attention is torch's own kernel, the optimizer
is fused, and for `compiled` one graph from tokens to loss.

Shapes: B batch, T positions, D width, H heads, K head dimension, F width of the MLP, V vocabulary,
R rank, I inputs and O outputs of a projection. Torch's kernels are OI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Reading
from benchmarks.frameworks.pytorch.adapter import TORCH_DEVICES, dtype_name, multiplies_bf16
from workloads.transformer import network

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}


class Numerics(NamedTuple):
    """What a precision means here."""

    master: torch.dtype
    """Trained parameters and their optimizer."""
    compute: torch.dtype
    """Activations, products and frozen weights."""
    wide: torch.dtype
    """Normalisation, rotation and loss."""
    widens_products: bool = False
    """Whether products of rounded operands are made in float32, as a bf16 unit sums them: torch's
    own bf16 products on a CPU without such units are many times slower."""


def numerics_of(*, precision: str, device: str) -> Numerics:
    """The dtypes of a precision on a device."""
    if precision == "fp64":
        return Numerics(torch.float64, torch.float64, torch.float64)
    if precision not in ("bf16", "bf16_pure"):
        return Numerics(torch.float32, torch.float32, torch.float32)
    return Numerics(
        torch.bfloat16 if precision == "bf16_pure" else torch.float32,
        torch.bfloat16,
        torch.float32,
        widens_products=device == "cpu" and not multiplies_bf16(),
    )


def build(problem: Problem, framework: Framework) -> DecoderTraining:
    """The training program of this case."""
    return DecoderTraining(problem, framework)


class Adapters(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """LoRA of projections of one input: Hu et al. (2021), section 4.1."""

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
        """What is added to each part's output."""
        low_BTR = factor * _product(x_BTI, self.a_RI, self.numerics)
        return [
            _product(low_BTR[..., i * self.rank : (i + 1) * self.rank], b_OR, self.numerics)
            for i, b_OR in enumerate(self.b_OR)
        ]


class Projections(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Projections of one input without bias, as one product; with LoRA frozen, beside adapters."""

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
        """Each kernel's name, the parameter that it is a part of, and its rows there."""
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
    """Zhang and Sennrich (2019), in the wide dtype; frozen where there are adapters."""

    def __init__(self, name: str, recipe: Recipe) -> None:
        super().__init__()
        self.name = name
        self.numerics = recipe.numerics
        self.epsilon = recipe.constants["rms_norm_epsilon"]
        shape = (recipe.parameters["width"],)
        self.scale_D = _weight(shape, recipe.numerics, is_frozen=bool(recipe.lora))

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """The normalised input in its dtype."""
        wide = self.numerics.wide
        scale_D = self.scale_D.to(wide)
        return F.rms_norm(x_BTD.to(wide), scale_D.shape, scale_D, self.epsilon).to(x_BTD.dtype)


class Recipe(NamedTuple):
    """What the layers need beside their dimensions."""

    parameters: Mapping[str, int]
    numerics: Numerics
    constants: Mapping[str, float]

    @property
    def lora(self) -> Mapping[str, float]:
        """The adapters' constants; empty where every weight is trained."""
        return {name: v for name, v in self.constants.items() if name.startswith("lora_")}

    def projections(self, parts: Sequence[network.Projection]) -> Projections:
        """Projections of one input, with adapters where the case has them."""
        return Projections(parts, self.numerics, self.lora)


class Layer(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Attention and MLP, each behind a normalisation and added to its input."""

    def __init__(self, recipe: Recipe, index: int) -> None:
        super().__init__()
        *inputs, output = network.attention_projections(recipe.parameters, index)
        gate, up, down = network.mlp_projections(recipe.parameters, index)
        self.num_heads = recipe.parameters["num_heads"]
        self.numerics = recipe.numerics
        self.attention_norm = RMSNorm(f"layer{index}/attention_norm", recipe)
        self.query_key_value = recipe.projections(inputs)
        self.output = recipe.projections([output])
        self.mlp_norm = RMSNorm(f"layer{index}/mlp_norm", recipe)
        self.gate_up = recipe.projections([gate, up])
        self.down = recipe.projections([down])

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
    """Su et al. (2021), section 3.4.2; K is half of a head's dimension."""
    dimension = recipe.parameters["width"] // recipe.parameters["num_heads"]
    exponents_K = np.arange(0, dimension, 2) / dimension
    frequencies_K = recipe.constants["rotary_base"] ** -exponents_K
    angles_T1K = (np.arange(length)[:, None] * frequencies_K)[:, None]
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
    """Causal attention by the kernel that torch takes for these, BHTK."""
    if not numerics.widens_products:
        return F.scaled_dot_product_attention(query_BHTK, key_BHTK, value_BHTK, is_causal=True)
    mixed_BHTK = F.scaled_dot_product_attention(
        query_BHTK.float(), key_BHTK.float(), value_BHTK.float(), is_causal=True
    )
    return mixed_BHTK.to(numerics.compute)


def _product(x_BTI: torch.Tensor, weight_OI: torch.Tensor, numerics: Numerics) -> torch.Tensor:
    """The input times the kernel in the compute dtype, BTO."""
    weight_OI = weight_OI.to(numerics.compute)
    if numerics.widens_products:
        return F.linear(x_BTI.float(), weight_OI.float()).to(numerics.compute)
    return F.linear(x_BTI, weight_OI)


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
                # Nothing here is random: without the generators' states to save and restore.
                x_BTD = checkpoint(
                    layer, x_BTD, rotation, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BTD = layer(x_BTD, rotation)
        logits_BTV = _product(self.final_norm(x_BTD), self.head_VD, self.numerics)
        return logits_BTV.to(self.numerics.wide)

    def canonical(self) -> Iterator[tuple[str, torch.Tensor, slice]]:
        """Every canonical name, the parameter that holds it, and its rows there."""
        yield "embedding/table", self.table_VD, slice(None)
        yield "head/kernel", self.head_VD, slice(None)
        for module in self.modules():
            if isinstance(module, RMSNorm):
                yield f"{module.name}/scale", module.scale_D, slice(None)
            elif isinstance(module, Projections):
                yield from module.canonical()


class Held(NamedTuple):
    """Where a canonical array is."""

    parameter: torch.Tensor
    rows: slice


class DecoderTraining:
    """Forward, loss, backward and update; see `Program`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        case = problem.case
        self._framework = framework
        self._constants = problem.hyperparameters
        self._device = TORCH_DEVICES[case.place.device]
        numerics = numerics_of(precision=case.way.precision, device=case.place.device)
        recipe = Recipe(problem.parameters, numerics, problem.hyperparameters)
        with torch.device("meta"):  # `load` brings the weights: draw none
            model = Decoder(recipe, recompute=dict(case.way.options)["recompute"] == "full")
        self._model = model.to_empty(device=self._device)
        self._rotation = rotation_of(recipe, network.sequence_length(case.work), self._device)
        self._held = {name: Held(tensor, rows) for name, tensor, rows in model.canonical()}
        self._optimizer = self._fresh_optimizer()
        self._compute_loss = self._loss_of
        if case.way.execution == "compiled":
            self._compute_loss = torch.compile(self._loss_of, fullgraph=True, dynamic=False)
        self._batches: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._next = 0
        self._loss: torch.Tensor | None = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state."""
        with torch.no_grad():
            for name, (parameter, rows) in self._held.items():
                value = self._framework.put(weights[name])
                parameter[rows].copy_(_turned(name, value))
        self._optimizer = self._fresh_optimizer()

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next step uses the first, and steps rotate."""
        put = self._framework.put
        self._batches = [(put(one["tokens"]), put(one["labels"]).long()) for one in batches]
        self._next = 0

    def step(self) -> torch.Tensor:
        """Enqueue one training step on the next batch; its loss, still on the device."""
        tokens_BT, labels_BT = self._batches[self._next]
        self._next = (self._next + 1) % len(self._batches)
        self._optimizer.zero_grad(set_to_none=True)  # before the forward: it frees the gradients
        loss = self._compute_loss(tokens_BT, labels_BT)
        loss.backward()
        self._optimizer.step()
        self._loss = loss.detach()
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, fetched one by one."""
        assert self._loss is not None, "read before the first step"
        fetch: dict[str, Callable[[], np.ndarray]] = {
            "loss": partial(self._framework.get, self._loss)
        }
        for name, (parameter, rows) in self._held.items():
            if not parameter.requires_grad:
                fetch[f"frozen/{name}"] = partial(self._get_part, name, parameter[rows])
                continue
            state = self._optimizer.state[parameter]
            for group, tensor in (
                ("weights", parameter),
                ("optimizer", state["exp_avg"]),
                ("second_moment", state["exp_avg_sq"]),
            ):
                fetch[f"{group}/{name}"] = partial(self._get_part, name, tensor[rows])
        return Reading(fetch)

    def inspect(self) -> Effective:
        """What the step's tensors are; torch counts the FLOP of products only.

        Activations and FLOP are of a step on tensors without values: no time, no memory. Attention
        counts there as the products that it is made of.
        """
        parameter = next(one for one in self._model.parameters() if one.requires_grad)
        seen: list[torch.Tensor] = []
        hook = self._model.layers[0].register_forward_hook(lambda _m, _i, y: seen.append(y))
        recompute, self._model.recompute = self._model.recompute, False
        with (
            FakeTensorMode() as fake,
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
        ):
            named = self._model.named_parameters()
            without_values = {name: fake.from_tensor(tensor) for name, tensor in named}
            model = partial(torch.func.functional_call, self._model, without_values)
            tokens_BT, labels_BT = map(fake.from_tensor, self._batches[0])
            rotation = Rotation(*map(fake.from_tensor, self._rotation))
            self._loss_of(
                tokens_BT, labels_BT, model=lambda *a: model(a), rotation=rotation
            ).backward()
        hook.remove()
        self._model.recompute = recompute
        return Effective(
            parameters=dtype_name(parameter.dtype),
            gradients=dtype_name(parameter.grad.dtype),
            optimizer=dtype_name(self._optimizer.state[parameter]["exp_avg"].dtype),
            activations=dtype_name(seen[0].dtype),
            flop_per_step=counter.get_total_flops(),
            attention=self._attention_kernel(),
        )

    def _attention_kernel(self) -> str:
        """The kernel that torch chooses for the attention of this case."""
        layer, (tokens_BT, _) = self._model.layers[0], self._batches[0]
        batch_size, length = tokens_BT.shape
        dimension = self._model.table_VD.shape[1] // layer.num_heads
        numerics = self._model.numerics
        dtype = torch.float32 if numerics.widens_products else numerics.compute
        shape = (batch_size, layer.num_heads, length, dimension)
        operands = torch.empty(3, *shape, dtype=dtype, device=self._device, requires_grad=True)
        chosen = torch._fused_sdp_choice(*operands.unbind(), is_causal=True)
        return f"sdpa {SDPBackend(chosen).name.lower()}"

    def _get_part(self, name: str, part: torch.Tensor) -> np.ndarray:
        return self._framework.get(_turned(name, part.detach()))

    def _loss_of(
        self,
        tokens_BT: torch.Tensor,
        labels_BT: torch.Tensor,
        model: Callable[..., torch.Tensor] | None = None,
        rotation: Rotation | None = None,
    ) -> torch.Tensor:
        """The mean cross-entropy over all positions, from logits in float32 or wider."""
        logits_BTV = (model or self._model)(tokens_BT, rotation or self._rotation)
        return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten())

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        """AdamW, Loshchilov and Hutter (2019), algorithm 2, over what is trained."""
        constants = self._constants
        decayed: dict[torch.Tensor, None] = {}
        others: dict[torch.Tensor, None] = {}
        for name, (parameter, _) in self._held.items():
            if parameter.requires_grad:
                (decayed if network.is_decayed(name) else others)[parameter] = None
        groups: list[dict[str, Any]] = [
            {"params": list(decayed), "weight_decay": constants["weight_decay"]},
            {"params": list(others), "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=constants["learning_rate"],
            betas=(constants["beta1"], constants["beta2"]),
            eps=constants["epsilon"],
            fused=True,
        )


def _turned(name: str, array: torch.Tensor) -> torch.Tensor:
    """A kernel from IO to OI or back; the embedding's table and vectors as they are."""
    return array if array.ndim < 2 or name == "embedding/table" else array.T
