"""Keras on JAX: JAX's adapter, and Keras's stateless step functions with their state.

It imports jax, the contract and the part that Keras's frameworks share.
"""

from __future__ import annotations

import functools
from typing import Any

import jax

from benchmarks.frameworks.jax import adapter as jax_adapter
from benchmarks.frameworks.keras import LAST_LOSS
from benchmarks.frameworks.keras.framework import (
    Examined,
    Inference,
    KerasFramework,
    Training,
)

CUDNN_ATTENTION = "dot_product_attention_fwd"
"""Part of the name of the primitive in a trace that runs cuDNN's attention."""


class Adapter(KerasFramework):
    """Keras on JAX as the worker and the implementations see it; see `Framework`."""

    product_size = 16  # XLA's, whose fast path needs images that are larger than the kernel

    def __init__(self) -> None:
        super().__init__(jax_adapter.Adapter(), backend_name="jax", kernel_layout="OI")

    def fused_attention(self, shape: tuple[int, ...], dtype: str) -> str | None:
        """The kernel of cuDNN, if Keras's operation traces to it.

        Never TPU's: neither Keras nor that kernel divides the queries by the root of the head's
        dimension (Keras 3.15, dot_product_attention in keras/src/backend/jax/nn.py; jax 0.10,
        splash_attention_kernel.py).
        """
        from keras import ops

        attend = functools.partial(ops.dot_product_attention, is_causal=True)
        heads = jax.ShapeDtypeStruct(shape, dtype)
        trace = str(jax.make_jaxpr(attend)(heads, heads, heads))
        return "cudnn" if CUDNN_ATTENTION in trace else None

    def _training(self, model: Any) -> Training:
        return JaxTraining(model)

    def _inference(self, model: Any) -> Inference:
        return JaxInference(model)


class JaxInference:
    """Keras's jitted predict step and its state, which is donated and returned unchanged.

    As in `predict`, the state stays outside the variables from one call to the next.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._state: Any = None

    def answer(self, inputs: Any) -> Any:
        """Enqueue one predict step; returns the model's output."""
        if self._state is None:
            self._state = self._copied_state()
        outputs, self._state = self._model.predict_function(self._state, iter([(inputs,)]))
        return outputs

    def count_flop(self, inputs: Any) -> int:
        """FLOP of the matmuls and convolutions in the step's trace."""
        return jax_adapter.count_flop(self._model.predict_step, self._copied_state(), (inputs,))

    def _copied_state(self) -> tuple[list[Any], ...]:
        """Copies of the variables' values, since the step donates their memory."""
        model = self._model
        groups = (model.trainable_variables, model.non_trainable_variables)
        return tuple([jax.numpy.copy(one.value) for one in variables] for variables in groups)


class JaxTraining:
    """Keras's jitted train step and its state, which stays outside the variables between steps.

    `fit` does the same and assigns the variables at the end of an epoch: doing so in each step
    would cost more than to launch the step (Keras 3.15, keras/src/backend/jax/trainer.py). The step
    donates its state, so that the variables' own arrays are deleted after the first step.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._state: Any = None

    def step(self, inputs: Any, targets: Any) -> Any:
        """Enqueue one train step; returns its loss."""
        state = self._variables_values() if self._state is None else self._state
        logs, self._state = self._model.train_function(state, iter([(inputs, targets)]))
        return logs[LAST_LOSS]

    def sync(self) -> None:
        """Assign the state to the variables; the next step begins from their values."""
        if self._state is not None:
            for variables, values in zip(self._variables(), self._state):
                for variable, value in zip(variables, values):
                    variable.assign(value)
        self._state = None

    def examine(self, inputs: Any, targets: Any) -> Examined:
        """The dtypes and FLOP in the train step's trace."""
        self.sync()
        state = self._variables_values()
        flop = jax_adapter.count_flop(self._model.train_step, state, (inputs, targets))
        gradients = jax.eval_shape(self._gradients, state, inputs, targets)
        return Examined(gradients=str(gradients[0].dtype), flop_per_step=flop)

    def _gradients(self, state: Any, inputs: Any, targets: Any) -> list[Any]:
        trainable, non_trainable, optimizer, metrics = state
        gradients: list[Any]
        gradients, _ = jax.grad(self._model.compute_loss_and_updates, has_aux=True)(
            trainable,
            non_trainable,
            metrics,
            inputs,
            targets,
            None,
            training=True,
            optimizer_variables=optimizer,
        )
        return gradients

    def _variables(self) -> tuple[list[Any], ...]:
        """The variables in the order of Keras's state."""
        model = self._model
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )

    def _variables_values(self) -> tuple[list[Any], ...]:
        return tuple([one.value for one in variables] for variables in self._variables())
