"""The decoder's fine-tune in TensorFlow: one function for the whole step, no Keras.

All three executions run the same Python: `eager` calls it, `graph` and `compiled` trace it.
Adam is TensorFlow's own operation.

Shapes: B batch, T positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Reading
from benchmarks.frameworks.tensorflow.adapter import count_flop
from workloads.transformer import network
from workloads.transformer.tensorflow.network import Decoder

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}
TUNED = {
    "transformer_finetune": "padded matmuls of weight gradients whose rows alias in the caches"
}
TUNED_ON = {"transformer_finetune": {"cpu"}}


def build(problem: Problem, framework: Framework) -> DecoderTraining:
    """Build the training program; it has no weights and no batches yet."""
    return DecoderTraining(problem, framework)


class Moments(NamedTuple):
    """Adam's two averages for one variable."""

    first: Any
    second: Any


class Powers(NamedTuple):
    """Scalars of one update that all variables share: the betas to the power of the step number."""

    beta1: Any
    beta2: Any
    scaled_epsilon: Any
    """Epsilon for a root that is not bias-corrected yet."""


class AdamW:
    """Loshchilov and Hutter (2019), algorithm 2, at a constant rate."""

    def __init__(self, constants: Mapping[str, float], dtype: Any, framework: Framework) -> None:
        def constant(value: float) -> Any:
            return framework.put(np.array(value, dtype.as_numpy_dtype))

        # Created once: otherwise eager execution would copy them to the device for each parameter.
        self._rate = constant(constants["learning_rate"])
        self._decay = constant(constants["learning_rate"] * constants["weight_decay"])
        self._beta1, self._beta2 = constant(constants["beta1"]), constant(constants["beta2"])
        self._epsilon = constant(constants["epsilon"])
        self._num_updates = tf.Variable(constant(0.0), trainable=False, name="num_updates")
        self.moments: dict[str, Moments] = {}

    def reset(self, variables: Mapping[str, Any]) -> None:
        """Start again with these variables; existing moments are kept and set to 0."""
        self._num_updates.assign(tf.zeros_like(self._num_updates))
        for name, variable in variables.items():
            zeros = tf.zeros_like(variable)
            if name in self.moments:
                for moment in self.moments[name]:
                    moment.assign(zeros)
            else:
                self.moments[name] = Moments(*(tf.Variable(zeros, trainable=False) for _ in "mv"))

    def apply(self, variables: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        """Update every variable that has a gradient."""
        self._num_updates.assign_add(tf.ones_like(self._num_updates))
        number = self._num_updates.read_value()
        beta1_power, beta2_power = tf.pow(self._beta1, number), tf.pow(self._beta2, number)
        epsilon = self._epsilon * tf.sqrt(1 - beta2_power)
        powers = Powers(beta1_power, beta2_power, epsilon)
        for name, gradient in gradients.items():
            is_wide = gradient.dtype == self._rate.dtype
            update = self._update_in_one if is_wide else self._update_in_wide
            update(name, variables[name], gradient, powers)

    def _update_in_one(self, name: str, variable: Any, gradient: Any, powers: Powers) -> None:
        """Update by TensorFlow's own operation, which adds epsilon to the uncorrected root.

        https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyAdam
        """
        if network.is_decayed(name):
            with tf.control_dependencies([gradient]):  # not before: it allocates memory
                variable.assign_sub(self._decay * variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self.moments[name].first.handle,
            v=self.moments[name].second.handle,
            beta1_power=powers.beta1,
            beta2_power=powers.beta2,
            lr=self._rate,
            beta1=self._beta1,
            beta2=self._beta2,
            epsilon=powers.scaled_epsilon,
            grad=gradient,
        )

    def _update_in_wide(self, name: str, variable: Any, gradient: Any, powers: Powers) -> None:
        """The same by separate operations, computed in the wide dtype and rounded once.

        It waits for the gradient, because its intermediate values take memory.
        """
        with tf.control_dependencies([gradient]):
            self._update_from_operations(name, variable, gradient, powers)

    def _update_from_operations(
        self, name: str, variable: Any, gradient: Any, powers: Powers
    ) -> None:
        dtype, wide = variable.dtype, self._rate.dtype
        moments, gradient = self.moments[name], tf.cast(gradient, wide)
        first = self._beta1 * tf.cast(moments.first, wide) + (1 - self._beta1) * gradient
        second = self._beta2 * tf.cast(moments.second, wide)
        second += (1 - self._beta2) * tf.square(gradient)
        root = tf.sqrt(second / (1 - powers.beta2))
        step = self._rate * (first / (1 - powers.beta1)) / (root + self._epsilon)
        weight = tf.cast(variable, wide)
        if network.is_decayed(name):
            step += self._decay * weight
        variable.assign(tf.cast(weight - step, dtype))
        moments.first.assign(tf.cast(first, dtype))
        moments.second.assign(tf.cast(second, dtype))


class DecoderTraining:
    """The decoder, its optimizer, device-resident batches and the function of one step."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        self._framework = framework
        self._decoder = Decoder(problem)
        self._optimizer = AdamW(problem.hyperparameters, self._decoder.numerics.wide, framework)
        self._train_step = _executed(self._train_step_in_python, problem.case.way.execution)
        self._batches: list[tuple[Any, Any]] = []
        self._ring: Iterator[tuple[Any, Any]] = iter(())
        self._loss: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state."""
        for name, held in self._decoder.canonical():
            parts = [weights[one] for one in held]
            whole = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
            self._decoder.assign(name, self._framework.put(whole))
        self._optimizer.reset(self._trained())

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns.

        They become int64: TensorFlow keeps eager int32 tensors in host memory, and a GPU would
        fetch them from there in each step.
        """
        put = self._framework.put
        self._batches = [
            (put(one["tokens"].astype(np.int64)), put(one["labels"].astype(np.int64)))
            for one in batches
        ]
        self._ring = itertools.cycle(self._batches)

    def step(self) -> Any:
        """Enqueue one training step on the next batch and return its loss."""
        self._loss = self._train_step(*next(self._ring))
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, each copied to the host when it is read."""
        fetch: dict[str, Callable[[], np.ndarray]] = {
            "loss": partial(self._framework.get, self._loss)
        }
        for name, held in self._decoder.canonical():
            for group, variable in self._groups(name):
                for index, canonical_name in enumerate(held):
                    part = partial(self._get_part, variable, index, num_parts=len(held))
                    fetch[f"{group}/{canonical_name}"] = part
        return Reading(fetch)

    def inspect(self) -> Effective:
        """Dtypes, attention and FLOP of the step, from its graphs, which every execution runs.

        FLOP do not include recomputation.
        """
        recomputes, self._decoder.recomputes = self._decoder.recomputes, False
        step = _traced(self._gradients).get_concrete_function(*self._batches[0])
        hidden = _traced(self._decoder.hidden).get_concrete_function(self._batches[0][0])
        self._decoder.recomputes = recomputes
        name, variable = next(iter(self._trained().items()))
        return Effective(
            parameters=variable.dtype.name,
            gradients=step.structured_outputs[1][name].dtype.name,
            optimizer=self._optimizer.moments[name].first.dtype.name,
            activations=hidden.structured_outputs.dtype.name,
            flop_per_step=count_flop(step.graph),
            attention="matmul, softmax, matmul",
        )

    def _trained(self) -> dict[str, Any]:
        return {name: one for name, one in self._decoder.variables.items() if one.trainable}

    def _groups(self, name: str) -> Iterator[tuple[str, Any]]:
        """The variables of a weight and its moments, each with the prefix that `read` gives it."""
        variable = self._decoder.variables[name]
        if not variable.trainable:
            yield "frozen", variable
            return
        yield "weights", variable
        yield from zip(("optimizer", "second_moment"), self._optimizer.moments[name])

    def _get_part(self, variable: Any, index: int, *, num_parts: int) -> np.ndarray:
        """One of the parts of equal width that are side by side in a variable."""
        width = variable.shape[-1] // num_parts
        part = variable[..., index * width : (index + 1) * width] if num_parts > 1 else variable
        return self._framework.get(part)

    def _train_step_in_python(self, tokens_BT: Any, labels_BT: Any) -> Any:
        """Return the loss; update the trained weights and the optimizer's state."""
        loss, gradients = self._gradients(tokens_BT, labels_BT)
        self._optimizer.apply(self._decoder.variables, gradients)
        return loss

    def _gradients(self, tokens_BT: Any, labels_BT: Any) -> tuple[Any, dict[str, Any]]:
        """The loss, and its gradient by each trained weight as a dense tensor."""
        with tf.GradientTape() as tape:
            loss = self._decoder.loss(tokens_BT, labels_BT)
        gradients = tape.gradient(loss, self._trained())
        return loss, {name: tf.convert_to_tensor(one) for name, one in gradients.items()}


def _traced(function: Callable[..., Any], *, jit_compile: bool = False) -> Any:
    return tf.function(function, autograph=False, jit_compile=jit_compile)


def _executed(function: Callable[..., Any], execution: str) -> Callable[..., Any]:
    """The function as this execution runs it."""
    if execution == "eager":
        return function
    traced: Callable[..., Any] = _traced(function, jit_compile=execution == "compiled")
    return traced
