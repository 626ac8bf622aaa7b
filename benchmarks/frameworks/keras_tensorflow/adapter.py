"""Keras on TensorFlow: TensorFlow's adapter, and Keras's train function on its tensors.

It imports tensorflow, the contract and the part that Keras's frameworks share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from benchmarks.frameworks.keras import LAST_LOSS
from benchmarks.frameworks.keras.framework import (
    Examined,
    Inference,
    KerasFramework,
    Training,
)
from benchmarks.frameworks.tensorflow import adapter as tensorflow_adapter


class Adapter(KerasFramework):
    """Keras on TensorFlow as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        backend = tensorflow_adapter.Adapter()
        super().__init__(backend, backend_name="tensorflow", kernel_layout="IO")

    def fused_attention(self, shape: tuple[int, ...], dtype: str) -> str | None:
        """None: Keras refuses flash attention on this backend, and TensorFlow has none."""
        del shape, dtype
        return None

    def sgd(self, *, decay: float, is_decayed: Sequence[bool], **options: Any) -> Any:
        """SGD that updates a variable and its velocity in one pass over memory."""
        fused = {"apply_momentum": _apply_momentum}
        return super().sgd(decay=decay, is_decayed=is_decayed, **fused, **options)

    def _training(self, model: Any) -> Training:
        return TensorFlowTraining(model)

    def _inference(self, model: Any) -> Inference:
        return TensorFlowInference(model)


def _apply_momentum(
    variable: Any, velocity: Any, gradient: Any, *, rate: Any, momentum: Any
) -> None:
    """Velocity = momentum * velocity - rate * gradient, variable += velocity; all of one dtype.

    https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyKerasMomentum
    """
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum
    )


class TensorFlowInference:
    """Keras's predict function, which takes the first of a list of batches."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def answer(self, inputs: Any) -> Any:
        """Enqueue one predict step; returns the model's output."""
        return self._model.predict_function([(inputs,)])

    def count_flop(self, inputs: Any) -> int:
        """TensorFlow's own count of FLOP for a graph of the step."""
        traced = tf.function(lambda values: self._model(values, training=False), autograph=False)
        return tensorflow_adapter.count_flop(traced.get_concrete_function(inputs).graph)


class TensorFlowTraining:
    """Keras's train function: a `tf.function` of the whole step, or the step itself if eager.

    `fit` takes batches from a tf.data iterator; any other iterator may pass tensors that are on the
    device already (Keras 3.15, keras/src/backend/tensorflow/trainer.py).
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def step(self, inputs: Any, targets: Any) -> Any:
        """Enqueue one train step; returns its loss."""
        return self._model.train_function(iter([(inputs, targets)]))[LAST_LOSS]

    def sync(self) -> None:
        """Do nothing: the step changes the variables themselves."""

    def examine(self, inputs: Any, targets: Any) -> Examined:
        """The dtypes and FLOP of a graph of the gradients, so without the update."""
        traced = tf.function(self._gradients, autograph=False)
        concrete = traced.get_concrete_function(inputs, targets)
        return Examined(
            gradients=concrete.structured_outputs[0].dtype.name,
            flop_per_step=tensorflow_adapter.count_flop(concrete.graph),
        )

    def _gradients(self, inputs: Any, targets: Any) -> list[Any]:
        model = self._model
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(inputs, targets, outputs, training=True)
        weights = [variable.value for variable in model.trainable_variables]
        gradients: list[Any] = tape.gradient(loss, weights)
        return gradients
