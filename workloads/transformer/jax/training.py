"""The decoder's fine-tune in JAX, Flax linen and Optax: one compiled program from tokens to state.

Shapes: B batch, T positions, V vocabulary. Kernels are OI: outputs and inputs of a projection.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from benchmarks.contract.case import TUNED as RECIPE_TUNED
from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Program, Reading
from benchmarks.frameworks.jax.adapter import count_flop
from workloads.transformer import network
from workloads.transformer.jax.network import (
    MAX_QUERIES,
    Decoder,
    Recipe,
    attend,
    attend_by_cudnn,
    canonical,
    numerics_of,
)

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}
TUNED = {
    "transformer_finetune": "attention in blocks of 256 queries",
    "transformer_lora": "attention in blocks of 256 queries",
}
TUNED_ON = {"transformer_finetune": {"cpu"}, "transformer_lora": {"cpu"}}


class State(NamedTuple):
    """The input and the output of a step; the output reuses the input's memory."""

    parameters: Any
    optimizer: Any


class Batch(NamedTuple):
    """The tokens and labels of one step."""

    tokens_BT: jax.Array
    labels_BT: jax.Array


def build(problem: Problem, framework: Framework) -> Program:
    """Build the training program; it has no weights and no batches yet."""
    return DecoderTraining(problem, framework)


class DecoderTraining:
    """The state on the device, the batches, and the compiled step; see `Program`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        way, device = problem.case.way, problem.case.place.device
        numerics = numerics_of(way.precision)
        has_cudnn = device == "cuda" and numerics.compute == jnp.bfloat16
        self._framework = framework
        self._recipe = Recipe(
            problem.parameters,
            numerics,
            problem.hyperparameters,
            attend=_attention(has_cudnn=has_cudnn, is_tuned=way.recipe == RECIPE_TUNED),
            recompute=dict(way.options)["recompute"] == "full",
        )
        self._held = dict(canonical(self._recipe))
        self._model = Decoder(self._recipe)
        self._optimizer = _optimizer(problem.hyperparameters)
        self._init = jax.jit(self._optimizer.init)
        self._train_step = jax.jit(self._traced_step, donate_argnums=0)
        self._state: State | None = None
        self._frozen: Any = None
        self._batches: list[Batch] = []
        self._ring: Iterator[Batch] = iter(())
        self._loss: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state."""
        self._state = self._frozen = None  # first, since a device may not hold two states
        trained: dict[str, Any] = {}
        frozen: dict[str, Any] = {}
        parts: dict[str, list[str]] = {}
        for name, held in self._held.items():
            parts.setdefault(held.path, []).append(name)
        for path, names in parts.items():
            group, dtype = trained, self._recipe.numerics.master
            if self._is_frozen(names[0]):
                group, dtype = frozen, self._recipe.numerics.compute
            whole = np.concatenate([_turned(name, weights[name]) for name in names])
            group[path] = self._framework.put(whole.astype(dtype))
        parameters, self._frozen = _nested(trained), _nested(frozen)
        self._state = State(parameters, self._init(parameters))

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns."""
        put = self._framework.put
        self._batches = [Batch(put(one["tokens"]), put(one["labels"])) for one in batches]
        self._ring = itertools.cycle(self._batches)

    def step(self) -> Any:
        """Enqueue one training step on the next batch and return its loss.

        Waiting for the loss waits for the whole step: one program's results are ready together.
        """
        self._state, self._loss = self._train_step(self._state, self._frozen, next(self._ring))
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, each copied to the host when it is read."""
        assert self._state is not None, "read before load"
        frozen = _flat(self._frozen)
        trained = {
            "weights": _flat(self._state.parameters),
            "optimizer": _flat(optax.tree.get(self._state.optimizer, "mu")),
            "second_moment": _flat(optax.tree.get(self._state.optimizer, "nu")),
        }
        fetch: dict[str, Callable[[], np.ndarray]] = {
            "loss": partial(self._framework.get, self._loss)
        }
        for name in self._held:
            groups = {"frozen": frozen} if self._is_frozen(name) else trained
            for group, arrays in groups.items():
                fetch[f"{group}/{name}"] = partial(self._get_part, name, arrays)
        return Reading(fetch)

    def inspect(self) -> Effective:
        """Dtypes, attention and FLOP of the step, from its trace.

        FLOP count attention as matmuls, and recomputed activations once.
        """
        assert self._state is not None, "inspect before load"
        batch, parameters = self._batches[0], self._state.parameters
        plain = Decoder(dataclasses.replace(self._recipe, attend=attend, recompute=False))
        gradients_of = jax.grad(partial(loss_of, plain))
        arguments = (parameters, self._frozen, batch)
        _, seen = jax.eval_shape(
            partial(plain.apply, capture_intermediates=True, mutable=["intermediates"]),
            {"params": parameters, "frozen": self._frozen},
            batch.tokens_BT,
        )
        program = self._train_step.lower(self._state, self._frozen, batch).as_text()
        return Effective(
            parameters=_dtype_name(parameters),
            gradients=_dtype_name(jax.eval_shape(gradients_of, *arguments)),
            optimizer=_dtype_name(optax.tree.get(self._state.optimizer, "mu")),
            activations=_dtype_name(seen["intermediates"]["layer0"]["__call__"]),
            flop_per_step=count_flop(gradients_of, *arguments),
            attention="cudnn flash" if "__cudnn$fmha" in program else "xla products",
        )

    def _is_frozen(self, name: str) -> bool:
        return self._recipe.has_adapters and not network.is_adapter(name)

    def _get_part(self, name: str, arrays: Mapping[str, Any]) -> np.ndarray:
        path, rows = self._held[name]
        return _turned(name, self._framework.get(arrays[path])[rows])

    def _traced_step(self, state: State, frozen: Any, batch: Batch) -> tuple[State, jax.Array]:
        """The new state and the loss, from the old state and a batch.

        The update is computed in the wide dtype, and the new state is rounded once. Optax alone
        would compute in the state's dtype; in bfloat16 that rounds a beta of 0.9 to 0.8984.
        """
        gradients_of = jax.value_and_grad(partial(loss_of, self._model))
        loss, gradients = gradients_of(state.parameters, frozen, batch)
        gradients, (parameters, optimizer) = self._widened((gradients, state))
        updates, optimizer = self._optimizer.update(gradients, optimizer, parameters)
        parameters = optax.apply_updates(parameters, updates)
        return optax.tree.cast_like(State(parameters, optimizer), state), loss

    def _widened(self, tree: Any) -> Any:
        def widened(leaf: jax.Array) -> jax.Array:
            is_count = jnp.issubdtype(leaf.dtype, jnp.integer)
            return leaf if is_count else leaf.astype(self._recipe.numerics.wide)

        return jax.tree.map(widened, tree)


def loss_of(model: Decoder, parameters: Any, frozen: Any, batch: Batch) -> jax.Array:
    """The mean cross-entropy over all positions, from logits in float32 or wider."""
    logits_BTV = model.apply({"params": parameters, "frozen": frozen}, batch.tokens_BT)
    losses_BT = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, batch.labels_BT)
    return losses_BT.mean()


def _attention(*, has_cudnn: bool, is_tuned: bool) -> Callable[..., jax.Array]:
    """The attention of a recipe: cuDNN's if possible, else by matmuls, when tuned in blocks."""
    if has_cudnn:
        return attend_by_cudnn
    return partial(attend, max_queries=MAX_QUERIES) if is_tuned else attend


def _optimizer(constants: Mapping[str, float]) -> optax.GradientTransformation:
    """AdamW, Loshchilov and Hutter (2019), algorithm 2; the decay on matrices only."""
    return optax.adamw(
        constants["learning_rate"],
        b1=constants["beta1"],
        b2=constants["beta2"],
        eps=constants["epsilon"],
        weight_decay=constants["weight_decay"],
        mask=_decayed,
    )


def _decayed(parameters: Any) -> Any:
    return traverse_util.path_aware_map(
        lambda path, _: network.is_decayed("/".join(path)), parameters
    )


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    """A kernel transposed from IO to OI or back; the embedding's table and vectors unchanged."""
    return array if array.ndim < 2 or name == "embedding/table" else array.T


def _dtype_name(tree: Any) -> str:
    """The dtype of a tree's first array."""
    return str(jax.tree.leaves(tree)[0].dtype)


def _nested(values: Mapping[str, Any]) -> Any:
    return traverse_util.unflatten_dict(values, sep="/")


def _flat(tree: Any) -> dict[str, Any]:
    return dict(traverse_util.flatten_dict(tree, sep="/"))
