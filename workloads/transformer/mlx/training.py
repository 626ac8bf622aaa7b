"""The decoder's fine-tune in MLX: one function from a batch to the new state, lazy or compiled.

Both executions run the same Python: `eager` evaluates the operations that a step recorded,
`compiled` traces them once. Trained and frozen parameters are separate flat dictionaries; MLX
computes gradients of the trained ones only.

Shapes: B batch, T positions, D width, H heads, K head dimension, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Reading
from benchmarks.frameworks.mlx.adapter import dtype_name
from workloads.transformer import network
from workloads.transformer.mlx.network import (
    COMPOSED_ATTENTION,
    Decoder,
    Held,
    Layer,
    attention_of,
    below_largest,
    held_arrays,
    joined,
)

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}

ATTENTION_MARKS = {
    "ScaledDotProductAttentionVJP": "mx.fast, fused both ways",
    "ScaledDotProductAttention": "mx.fast, fused forward, composed backward",
    **COMPOSED_ATTENTION,
}
"""Operations that mark a kind of attention in a recorded step, with its description; the first that
is found counts."""


def build(problem: Problem, framework: Framework) -> DecoderTraining:
    """Build the training program; it has no weights and no batches yet."""
    return DecoderTraining(problem, framework)


class TrainedDecoder(Decoder):
    """The network from a batch to its loss."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, num_positions=network.sequence_length(problem.case.work))
        self._recompute = dict(problem.case.way.options)["recompute"] == "full"

    def is_trained(self, name: str) -> bool:
        """Whether an array is trained; the others are frozen."""
        return self.rank is None or network.is_adapter(name)

    def loss(
        self,
        trained: Mapping[str, mx.array],
        frozen: Mapping[str, mx.array],
        tokens_BT: mx.array,
        labels_BT: mx.array,
    ) -> mx.array:
        """The mean cross-entropy over all positions, in float32 or wider."""
        arrays = {**frozen, **trained}
        x_BTD = self.embed(arrays, tokens_BT)
        pass_layer = self._pass_again if self._recompute else self.pass_trained
        for layer in self.layers:
            x_BTD = pass_layer(layer, arrays, x_BTD)
        logits_BTV = self.logits(arrays, x_BTD)
        if self.numerics.wide == mx.float64:
            return float64_cross_entropy(logits_BTV, labels_BT)
        return mx.fast.cross_entropy(logits_BTV.astype(self.numerics.fast), labels_BT).mean()

    def pass_trained(
        self, layer: Layer, arrays: Mapping[str, mx.array], x_BTD: mx.array
    ) -> mx.array:
        """The layer's output for whole sequences, BTD."""
        return self.pass_layer(layer, arrays, x_BTD, self._attend)

    def _pass_again(
        self, layer: Layer, arrays: Mapping[str, mx.array], x_BTD: mx.array
    ) -> mx.array:
        """The same, with activations recomputed in the backward pass instead of being stored."""

        def pass_layer(trained: Mapping[str, mx.array], x_BTD: mx.array) -> mx.array:
            return self.pass_trained(layer, {**arrays, **trained}, x_BTD)

        # Passed as arguments, because a checkpoint differentiates only its arguments.
        own = (name for name in arrays if name.startswith(f"{layer.name}/"))
        trained = {name: arrays[name] for name in own if self.is_trained(name)}
        return mx.checkpoint(pass_layer)(trained, x_BTD)

    def _attend(self, query: mx.array, key: mx.array, value: mx.array) -> mx.array:
        rotate, attend = self.operations.rotate, self.operations.attend
        return attend(rotate(query, 0), rotate(key, 0), value, "causal")


def float64_cross_entropy(logits_BTV: mx.array, labels_BT: mx.array) -> mx.array:
    """The mean cross-entropy of the softmax, to all digits of float64; parity only."""
    scores_BTV = below_largest(logits_BTV)
    own_BT1 = mx.take_along_axis(scores_BTV, labels_BT[..., None], -1)
    sums_BT1 = (mx.expm1(scores_BTV) + 1).sum(-1, keepdims=True)
    return (mx.log(sums_BT1) - own_BT1).mean()


class DecoderTraining:
    """The state, device-resident batches and the function of one step; see `Program`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        self._framework = framework
        self._constants = problem.hyperparameters
        self._decoder = TrainedDecoder(problem)
        self._held = dict(held_arrays(self._decoder.layers, rank=self._decoder.rank))
        self._trained: dict[str, mx.array] = {}
        self._frozen: dict[str, mx.array] = {}
        self._first_moments: dict[str, mx.array] = {}
        self._second_moments: dict[str, mx.array] = {}
        self._powers: dict[str, mx.array] = {}
        """Each beta to the power of the number of steps."""
        self._state = [self._trained, self._first_moments, self._second_moments, self._powers]
        self._gradients = mx.value_and_grad(self._decoder.loss)
        self._train_step = self._recorded_step
        if problem.case.way.execution == "compiled":
            self._train_step = mx.compile(
                self._recorded_step, inputs=[self._state, self._frozen], outputs=self._state
            )
        self._batches: list[tuple[mx.array, mx.array]] = []
        self._ring: Iterator[tuple[mx.array, mx.array]] = iter(())
        self._loss: mx.array | None = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state.

        The dictionaries are kept, because the compiled step reads and writes them.
        """
        numerics = self._decoder.numerics
        for name, whole in joined(self._held, weights):
            value = self._framework.put(whole.T if Held(name).is_turned else whole)
            if self._decoder.is_trained(name):
                self._trained[name] = value.astype(numerics.master)
                self._first_moments[name] = mx.zeros_like(self._trained[name])
                self._second_moments[name] = mx.zeros_like(self._trained[name])
            else:
                self._frozen[name] = value.astype(numerics.compute)
            mx.eval(self._state, self._frozen)  # type: ignore[no-untyped-call]  # in mlx's stubs
        for beta in ("beta1", "beta2"):
            self._powers[beta] = mx.array(1.0, numerics.wide)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns."""
        put = self._framework.put
        self._batches = [(put(batch["tokens"]), put(batch["labels"])) for batch in batches]
        self._ring = itertools.cycle(self._batches)

    def step(self) -> Any:
        """Enqueue one training step on the next batch and return its loss.

        It enqueues the whole state too: MLX computes only the arrays that it is asked for.
        """
        self._loss = self._train_step(*next(self._ring))
        mx.async_eval(self._loss, self._state)  # type: ignore[no-untyped-call]  # in mlx's stubs
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, each copied to the host when it is read."""
        assert self._loss is not None, "read before the first step"
        fetch = {"loss": partial(self._framework.get, self._loss)}
        groups = {
            "weights": self._trained,
            "optimizer": self._first_moments,
            "second_moment": self._second_moments,
            "frozen": self._frozen,
        }
        for name, held in self._held.items():
            for group, arrays in groups.items():
                if held.name in arrays:
                    fetch[f"{group}/{name}"] = partial(self._get_part, arrays[held.name], held)
        return Reading(fetch)

    def inspect(self) -> Effective:
        """Dtypes and attention of the step, from one that is recorded and never computed."""
        tokens_BT, labels_BT = self._batches[0]
        _, gradients = self._gradients(self._trained, self._frozen, tokens_BT, labels_BT)
        decoder, arrays = self._decoder, {**self._frozen, **self._trained}
        x_BTD = decoder.pass_trained(decoder.layers[0], arrays, decoder.embed(arrays, tokens_BT))
        name = next(iter(gradients))
        return Effective(
            parameters=dtype_name(self._trained[name].dtype),
            gradients=dtype_name(gradients[name].dtype),
            optimizer=dtype_name(self._first_moments[name].dtype),
            activations=dtype_name(x_BTD.dtype),
            flop_per_step=None,
            attention=attention_of(list(gradients.values()), ATTENTION_MARKS),
        )

    def _get_part(self, array: mx.array, held: Held) -> np.ndarray:
        if held.is_turned:
            return self._framework.get(array[held.columns]).T
        return self._framework.get(array[..., held.columns])

    def _recorded_step(self, tokens_BT: mx.array, labels_BT: mx.array) -> mx.array:
        """Return the loss; update parameters, moments and powers."""
        loss, gradients = self._gradients(self._trained, self._frozen, tokens_BT, labels_BT)
        for beta, power in self._powers.items():
            self._powers[beta] = power * self._constants[beta]
        for name, gradient in gradients.items():
            self._update(name, gradient)
        return loss

    def _update(self, name: str, gradient: mx.array) -> None:
        """Update a parameter by AdamW, Loshchilov and Hutter (2019), algorithm 2.

        Differs from mlx.optimizers.AdamW, which decays every parameter, rounds its rate to the
        gradient's dtype and computes in that dtype.
        """
        constants, numerics = self._constants, self._decoder.numerics
        beta1, beta2, rate = constants["beta1"], constants["beta2"], constants["learning_rate"]
        states = (self._trained, self._first_moments, self._second_moments)
        weight, first, second = (state[name].astype(numerics.wide) for state in states)
        gradient = gradient.astype(numerics.wide)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * mx.square(gradient)
        # These are scalars, so that they take no pass over the parameters.
        scale = (1 - self._powers["beta1"]) / rate
        root_scale = scale * mx.rsqrt(1 - self._powers["beta2"])
        change = first / (root_scale * mx.sqrt(second) + scale * constants["epsilon"])
        if network.is_decayed(name):
            weight = weight * (1 - rate * constants["weight_decay"])
        for state, value in zip(states, (weight - change, first, second)):
            state[name] = value.astype(numerics.master)
