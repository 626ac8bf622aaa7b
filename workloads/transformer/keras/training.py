"""The decoder's fine-tune in Keras 3, for every backend: Keras's own train step.

Shapes: B batch, T positions, N all positions of a batch (B T).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Callable

import keras
import numpy as np
from keras import ops

from benchmarks.contract.program import Arrays, Effective, Problem, Reading
from benchmarks.frameworks.keras.framework import KerasFramework
from workloads.transformer import network
from workloads.transformer.keras.network import Held, decoder, recipe_of

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}


def build(problem: Problem, framework: KerasFramework) -> DecoderTraining:
    """Build the training program of this case."""
    return DecoderTraining(problem, framework)


class DecoderTraining:
    """The model, its optimizer, the batches, and Keras's train step; see `Program`."""

    def __init__(self, problem: Problem, framework: KerasFramework) -> None:
        self._framework = framework
        self._recipe = recipe_of(problem, framework)
        self._model = decoder(self._recipe)
        names = {id(held.variable): held.names for held in self._recipe.held}
        trained = [names[id(variable)][0] for variable in self._model.trainable_variables]
        self._optimizer = framework.adamw(
            problem.hyperparameters, is_decayed=[network.is_decayed(name) for name in trained]
        )
        self._training = framework.training(
            self._model,
            optimizer=self._optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        self._batches: list[tuple[Any, Any]] = []
        self._ring: Iterator[tuple[Any, Any]] = iter(())
        self._loss: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state and the metrics."""
        self._training.sync()
        for held in self._recipe.held:
            held.variable.assign(self._framework.put(held.own(weights)))
        for variable in self._optimizer.variables:
            variable.assign(ops.zeros(variable.shape, variable.dtype))
        self._model.reset_metrics()

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns."""
        put = self._framework.put
        self._batches = [
            # int64: TensorFlow keeps int32 in host memory; it is the index type of Keras's losses.
            (
                put(batch["tokens"].astype(np.int64)),
                put(batch["labels"].reshape(-1).astype(np.int64)),
            )
            for batch in batches
        ]
        self._ring = itertools.cycle(self._batches)

    def step(self) -> Any:
        """Enqueue one training step on the next batch and return its loss."""
        self._loss = self._training.step(*next(self._ring))
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, each copied to the host when it is read."""
        self._training.sync()
        fetch: dict[str, Callable[[], np.ndarray]] = {
            "loss": partial(self._framework.get, self._loss)
        }
        optimizer = self._optimizer
        states = zip(self._model.trainable_variables, optimizer.moments, optimizer.second_moments)
        moments_of = {id(variable): moments for variable, *moments in states}
        for held in self._recipe.held:
            groups = {"frozen": held.variable}
            if held.variable.trainable:
                first, second = moments_of[id(held.variable)]
                groups = {"weights": held.variable, "optimizer": first, "second_moment": second}
            for group, variable in groups.items():
                for name in held.names:
                    fetch[f"{group}/{name}"] = partial(self._get, held, name, variable)
        return Reading(fetch)

    def inspect(self) -> Effective:
        """Dtypes of variables and activations, attention and FLOP of the model."""
        tokens_BT, labels_N = self._batches[0]
        examined = self._training.examine(tokens_BT, labels_N)
        self._training.sync()
        return Effective(
            parameters=self._model.trainable_variables[0].dtype,
            gradients=examined.gradients,
            optimizer=self._optimizer.moments[0].dtype,
            activations=self._model.get_layer("layer0").output.dtype,
            flop_per_step=examined.flop_per_step,
            attention=self._recipe.fused_attention or "unfused",
        )

    def _get(self, held: Held, name: str, variable: Any) -> np.ndarray:
        return held.canonical(name, self._framework.get(variable.value))
