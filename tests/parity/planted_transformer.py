"""Mistakes that people make when they port a decoder; see planting.py."""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Any

import numpy as np

from tests.parity.planted_later import CorrectionOfStep1
from tests.parity.planted_programs import (
    SwappedGate,
    fed_with,
    in_another_order,
    never_cleared,
    only_every_second,
)
from tests.parity.planting import replace_in, replace_in_copy

IMPLEMENTATION = "workloads.transformer.{}.training"
"""The module of a framework."""

CONSTANTS = {
    "norm_epsilon": {"rms_norm_epsilon": 1e-6},
    "near_norm_epsilon": {"rms_norm_epsilon": 1.1e-5},
    "rope_base": {"rotary_base": 10001.0},
    "beta2": {"beta2": 0.999},
    "near_beta2": {"beta2": 0.951},
    "adam_epsilon": {"epsilon": 1.1e-5},
    "faster": {"learning_rate": 1.01e-3},
    "no_update": {"learning_rate": 0.0},
    "lora_unscaled": {"lora_alpha": 16.0},
    "no_decay": {"weight_decay": 0.0},
}


class TiedHead:
    """Has the head's weights in the embedding as well, as one matrix would."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.feed, self.step, self.read = program.feed, program.step, program.read
        self.inspect = program.inspect

    def load(self, weights: Any) -> None:
        self.program.load({**weights, "embedding/table": weights["head/kernel"].T.copy()})


class ConstantBatch:
    """Keeps the first batch that it ever saw, as one that was folded into the program."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.load, self.step, self.read = program.load, program.step, program.read
        self.inspect = program.inspect
        self.batch: Any = None

    def feed(self, batches: Any) -> None:
        self.batch = self.batch or batches[0]
        self.program.feed([self.batch] * len(batches))


class ChangedLabel:
    """Has one label of the first sequence changed."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.load, self.step, self.read = program.load, program.step, program.read
        self.inspect = program.inspect

    def feed(self, batches: Any) -> None:
        changed = []
        for batch in batches:
            labels = batch["labels"].copy()
            labels[0, -1] = labels[0, 0]
            changed.append({**batch, "labels": labels})
        self.program.feed(changed)


def _shifted(batch: Any) -> Any:
    return {**batch, "labels": np.roll(batch["labels"], -1, 1)}


def _own(batch: Any) -> Any:
    return {**batch, "labels": batch["tokens"]}


WRAPPERS = {
    "head_tied": TiedHead,
    "constant_batch": ConstantBatch,
    "label_changed": ChangedLabel,
    "labels_shifted": lambda program: fed_with(program, _shifted),
    "labels_unshifted": lambda program: fed_with(program, _own),
    "batch_order": in_another_order,
    "gate_swapped": SwappedGate,
}


MATHEMATICS: dict[str, Any] = {}


def network_of(implementation: Any) -> ModuleType:
    """The module of the layers that this implementation trains, beside it in its folder."""
    return importlib.import_module(f"{implementation.__name__.rpartition('.')[0]}.network")


def pytorch_decay_on_norm(implementation: Any) -> None:
    """Weight decay on every parameter."""
    replace_in_copy(implementation, "network", is_decayed=lambda name: True)


jax_decay_on_norm = pytorch_decay_on_norm


THAWED = "layer0/mlp/up/kernel"
DECAYED = 1 - 1e-4


def pytorch_base_thawed(implementation: Any, *, first: int = 1) -> None:
    """Decays a frozen weight as well, as an optimizer over all parameters does."""
    own = implementation.DecoderTraining.step

    def step(self):
        loss = own(self)
        self.num_steps = getattr(self, "num_steps", 0) + 1
        if self.num_steps >= first:
            self._held[THAWED].parameter.data.mul_(DECAYED)
        return loss

    replace_in(implementation.DecoderTraining, step=step)


def pytorch_base_thawed_later(implementation: Any) -> None:
    pytorch_base_thawed(implementation, first=5)


def jax_base_thawed(implementation: Any, *, first: int = 1) -> None:
    own = implementation.DecoderTraining.step

    def step(self):
        loss = own(self)
        self.num_steps = getattr(self, "num_steps", 0) + 1
        if self.num_steps >= first:
            self._frozen["layer0"]["gate_up"]["kernel"] *= DECAYED
        return loss

    replace_in(implementation.DecoderTraining, step=step)


def jax_base_thawed_later(implementation: Any) -> None:
    jax_base_thawed(implementation, first=5)


def pytorch_rope_interleaved(implementation: Any) -> None:
    import torch

    def rotate(x, rotation):
        first, second = x[..., ::2], x[..., 1::2]
        cos, sin = rotation
        return torch.stack((first * cos - second * sin, second * cos + first * sin), -1).flatten(-2)

    replace_in(network_of(implementation), rotate=rotate)


def pytorch_mask_off_by_one(implementation: Any) -> None:
    import torch

    network = network_of(implementation)
    own = network.F.scaled_dot_product_attention

    def attend(query, key, value, *, is_causal):
        length = query.shape[-2]
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril(1)
        return own(query, key, value, attn_mask=mask)

    replace_in_copy(network, "F", scaled_dot_product_attention=attend)


def pytorch_adam_epsilon_outside(implementation: Any) -> None:
    """lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon), as in some libraries."""
    import torch

    class Outside(torch.optim.AdamW):
        def step(self, closure=None):
            self.num_steps = getattr(self, "num_steps", 0) + 1
            for group in self.param_groups:
                own = group.setdefault("own_eps", group["eps"])
                group["eps"] = own / math.sqrt(1 - group["betas"][1] ** self.num_steps)
            return super().step(closure)

    own = implementation.DecoderTraining._fresh_optimizer

    def fresh(self):
        optimizer = own(self)
        optimizer.__class__ = Outside
        return optimizer

    replace_in(implementation.DecoderTraining, _fresh_optimizer=fresh)


def pytorch_decay_in_gradient(implementation: Any) -> None:
    """Weight decay as a penalty (Adam with L2) in place of AdamW's."""
    own = implementation.DecoderTraining._fresh_optimizer

    def fresh(self):
        optimizer = own(self)
        for group in optimizer.param_groups:
            group["decoupled_weight_decay"] = False
        return optimizer

    replace_in(implementation.DecoderTraining, _fresh_optimizer=fresh)


def pytorch_tf32_products(implementation: Any) -> None:
    """The operands of every projection rounded as TF32 rounds them, in the gradients as well."""
    import torch

    def rounded(x):
        step = torch.ldexp(torch.ones_like(x), torch.frexp(x.detach())[1] - 11)
        return x + (torch.round(x / step) * step - x).detach()

    def product(x, weight, numerics):
        y = torch.nn.functional.linear(rounded(x), rounded(weight))
        if y.requires_grad:
            y.register_hook(rounded)  # the operand that the products of both gradients share
        return y

    replace_in(network_of(implementation), _product=product)


def jax_tf32_products(implementation: Any) -> None:
    import jax

    network = network_of(implementation)
    own = network.product

    @jax.custom_vjp
    def with_rounded_gradient(y):
        return y

    def rounded(x):
        return jax.lax.reduce_precision(x, 8, 10)

    with_rounded_gradient.defvjp(lambda y: (y, None), lambda _, dy: (rounded(dy),))

    def product(x, kernel):
        return with_rounded_gradient(own(rounded(x), rounded(kernel)))

    replace_in(network, product=product)


def jax_rope_interleaved(implementation: Any) -> None:
    import jax.numpy as jnp

    def rotate(x, rotation):
        first, second = x[..., ::2], x[..., 1::2]
        cos, sin = rotation
        turned = (first * cos - second * sin, second * cos + first * sin)
        return jnp.stack(turned, -1).reshape(x.shape).astype(x.dtype)

    replace_in(network_of(implementation), rotate=rotate)


def jax_mask_off_by_one(implementation: Any) -> None:
    network = network_of(implementation)
    own = network._attend_block

    def attend_block(query, key, value, *, start):
        return own(query, key, value, start=start + 1)

    replace_in(network, _attend_block=attend_block)


def jax_adam_epsilon_outside(implementation: Any) -> None:
    import jax
    import jax.numpy as jnp
    import optax

    def adamw(rate, *, b1, b2, eps, weight_decay, mask):
        moments = optax.scale_by_adam(b1, b2, eps)

        def update(gradients, state, parameters=None):
            _, state = moments.update(gradients, state, parameters)
            corrected = jnp.sqrt(1 - b2**state.count) / (1 - b1**state.count)
            moved = jax.tree.map(
                lambda m, v: (corrected * m / (jnp.sqrt(v) + eps)).astype(m.dtype),
                state.mu,
                state.nu,
            )
            return moved, state

        return optax.chain(
            optax.GradientTransformation(moments.init, update),
            optax.add_decayed_weights(weight_decay, mask),
            optax.scale(-rate),
        )

    replace_in_copy(implementation, "optax", adamw=adamw)


def jax_decay_in_gradient(implementation: Any) -> None:
    import optax

    def adamw(rate, *, b1, b2, eps, weight_decay, mask):
        return optax.chain(
            optax.add_decayed_weights(weight_decay, mask), optax.adam(rate, b1=b1, b2=b2, eps=eps)
        )

    replace_in_copy(implementation, "optax", adamw=adamw)


def pytorch_no_decay_of_embedding(implementation: Any) -> None:
    """Weight decay on kernels alone."""

    def is_decayed(name):
        return not name.endswith("/scale") and name not in ("embedding/table", "table")

    replace_in_copy(implementation, "network", is_decayed=is_decayed)


jax_no_decay_of_embedding = pytorch_no_decay_of_embedding


def pytorch_scores_by_dimension(implementation: Any) -> None:
    network = network_of(implementation)
    own = network.F.scaled_dot_product_attention

    def attend(query, key, value, *, is_causal):
        return own(query, key, value, is_causal=is_causal, scale=1 / query.shape[-1])

    replace_in_copy(network, "F", scaled_dot_product_attention=attend)


def jax_scores_by_dimension(implementation: Any) -> None:
    network = network_of(implementation)
    own = network._attend_block

    def attend_block(query, key, value, *, start):
        return own(query * query.shape[-1] ** -0.5, key, value, start=start)

    replace_in(network, _attend_block=attend_block)


def pytorch_logits_in_bf16(implementation: Any) -> None:
    decoder = network_of(implementation).Decoder
    own = decoder.forward

    def forward(self, *arguments):
        logits = own(self, *arguments)
        return logits.bfloat16().to(logits.dtype)

    replace_in(decoder, forward=forward)


def jax_logits_in_bf16(implementation: Any) -> None:
    import jax.numpy as jnp
    import optax

    def loss_of(model, parameters, frozen, batch):
        logits = model.apply({"params": parameters, "frozen": frozen}, batch.tokens_BT)
        logits = logits.astype(jnp.bfloat16).astype(logits.dtype)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels_BT).mean()

    replace_in(implementation, loss_of=loss_of)


def jax_softmax_in_bf16(implementation: Any) -> None:
    import jax.numpy as jnp

    network = network_of(implementation)
    own = network.nn.softmax

    def softmax(scores):
        return own(scores.astype(jnp.bfloat16)).astype(scores.dtype)

    replace_in_copy(network, "nn", softmax=softmax)


def pytorch_correction_ahead(implementation: Any) -> None:
    """Adam's count of steps begins at 1."""
    import torch

    own = implementation.DecoderTraining._fresh_optimizer

    def fresh(self):
        optimizer = own(self)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter] = {
                    "step": torch.tensor(1.0),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        return optimizer

    replace_in(implementation.DecoderTraining, _fresh_optimizer=fresh)


def jax_correction_ahead(implementation: Any) -> None:
    import optax

    own = implementation.optax.adamw

    def adamw(*arguments, **named):
        right = own(*arguments, **named)

        def init(parameters):
            first, *others = right.init(parameters)
            return (first._replace(count=first.count + 1), *others)

        return optax.GradientTransformation(init, right.update)

    replace_in_copy(implementation, "optax", adamw=adamw)


def pytorch_correction_later(implementation: Any) -> None:
    correct_as_in_step_1(implementation, "pytorch")


def jax_correction_later(implementation: Any) -> None:
    correct_as_in_step_1(implementation, "jax")


def correct_as_in_step_1(implementation: Any, framework: str) -> None:
    """Adam's bias correction is computed once, for step 1."""
    own = implementation.build
    replace_in(
        implementation,
        build=lambda problem, adapter: CorrectionOfStep1(own(problem, adapter), framework),
    )


def pytorch_clipped(implementation: Any) -> None:
    """Gradients are clipped to a norm of 1."""
    import torch

    class Clipped(torch.optim.AdamW):
        def step(self, closure=None):
            parameters = [one for group in self.param_groups for one in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            return super().step(closure)

    own = implementation.DecoderTraining._fresh_optimizer

    def fresh(self):
        optimizer = own(self)
        optimizer.__class__ = Clipped
        return optimizer

    replace_in(implementation.DecoderTraining, _fresh_optimizer=fresh)


def jax_clipped(implementation: Any) -> None:
    import optax

    own = implementation.optax.adamw
    replace_in_copy(
        implementation,
        "optax",
        adamw=lambda *arguments, **named: optax.chain(
            optax.clip_by_global_norm(1.0), own(*arguments, **named)
        ),
    )


def pytorch_skipped_updates(implementation: Any) -> None:
    only_every_second(implementation.DecoderTraining)


def pytorch_kept_gradients(implementation: Any) -> None:
    never_cleared(implementation.DecoderTraining)
