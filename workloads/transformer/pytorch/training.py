"""The decoder's fine-tune in PyTorch, in its fastest idiom: every weight, or only LoRA's adapters.

Tuned: the optimizer is fused, and `compiled` is one graph from tokens to loss.

Shapes: B batch, T positions, V vocabulary. Torch's kernels are OI: outputs and inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Reading
from benchmarks.frameworks.pytorch.adapter import TORCH_DEVICES, dtype_name
from workloads.transformer import network
from workloads.transformer.pytorch.network import (
    Decoder,
    Recipe,
    Rotation,
    numerics_of,
    rotation_of,
)

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}


def build(problem: Problem, framework: Framework) -> DecoderTraining:
    """Build the training program of this case."""
    return DecoderTraining(problem, framework)


class Held(NamedTuple):
    """The place of a canonical array."""

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
        with torch.device("meta"):  # `load` sets the weights: draw none
            model = Decoder(recipe, recompute=dict(case.way.options)["recompute"] == "full")
        self._model = model.to_empty(device=self._device)
        self._rotation = rotation_of(recipe, network.sequence_length(case.work), self._device)
        self._held = {name: Held(tensor, rows) for name, tensor, rows in model.canonical()}
        self._optimizer = self._fresh_optimizer()
        self._compute_loss = self._loss_of
        if case.way.execution == "compiled":
            self._compute_loss = torch.compile(self._loss_of, fullgraph=True, dynamic=False)
        self._batches: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._ring: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter(())
        self._loss: torch.Tensor | None = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state."""
        with torch.no_grad():
            for name, (parameter, rows) in self._held.items():
                value = self._framework.put(weights[name])
                parameter[rows].copy_(_turned(name, value))
        self._optimizer = self._fresh_optimizer()

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns."""
        put = self._framework.put
        self._batches = [(put(one["tokens"]), put(one["labels"]).long()) for one in batches]
        self._ring = itertools.cycle(self._batches)

    def step(self) -> torch.Tensor:
        """Enqueue one training step on the next batch and return its loss, still on the device."""
        tokens_BT, labels_BT = next(self._ring)
        self._optimizer.zero_grad(set_to_none=True)  # before the forward: it frees the gradients
        loss = self._compute_loss(tokens_BT, labels_BT)
        loss.backward()
        self._optimizer.step()
        self._loss = loss.detach()
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, each copied to the host when it is read."""
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
        """Dtypes, attention and FLOP of the step; torch counts the FLOP of matmuls only.

        Activations and FLOP come from a step on tensors without values: no time, no memory.
        Attention counts as matmuls.
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
        shape = (batch_size, layer.num_heads, length, dimension)
        operands = torch.empty(
            3, *shape, dtype=numerics.operand, device=self._device, requires_grad=True
        )
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
        """AdamW, Loshchilov and Hutter (2019), algorithm 2, of the trained parameters."""
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
    """A kernel transposed from IO to OI or back; the embedding's table and vectors unchanged."""
    return array if array.ndim < 2 or name == "embedding/table" else array.T
