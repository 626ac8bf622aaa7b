"""Keras's own part on any backend: its settings, a model that tells each loss, and optimizers.

It imports keras, whose backend must be set in the environment before, and no other framework.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import keras
import numpy as np
from keras import ops

from benchmarks.frameworks.keras import LAST_LOSS

DTYPE_POLICIES = {
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "mixed_bfloat16",
    "bf16_pure": "bfloat16",
    "fp16": "mixed_float16",
    "fp64": "float64",
}
"""Keras's dtype policy for each precision; the mixed ones keep variables in float32. Losses and
metrics are in floatx, which is float32 except in fp64."""

IMAGE_DATA_FORMAT = "channels_last"
"""The default for every backend. On torch, Keras passes these images as views in torch's own
channels_last layout, without a copy; training took as long or longer with channels_first.
Inference chooses the format layer by layer (`KerasFramework.image_format`)."""

LAYOUTS = {"channels_last": "NHWC", "channels_first": "NCHW"}


def configure(*, backend: str, precision: str) -> None:
    """Set the precision of layers made later; RuntimeError if keras has another backend."""
    chosen = keras.config.backend()
    if chosen != backend:
        raise RuntimeError(
            f"keras computes with {chosen}, expected {backend}\n"
            f"hint: set KERAS_BACKEND={backend} before keras is imported"
        )
    policy = DTYPE_POLICIES[precision]
    keras.config.set_floatx("float64" if policy == "float64" else "float32")
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(IMAGE_DATA_FORMAT)


def describe() -> dict[str, str]:
    """Keras's version and settings, read back from it."""
    return {
        "keras": keras.__version__,
        "keras.backend": keras.config.backend(),
        "keras.floatx": keras.config.floatx(),
        "keras.dtype_policy": keras.config.dtype_policy().name,
        "keras.image_data_format": keras.config.image_data_format(),
    }


def image_layout() -> str:
    """The layout of images in the layers: NHWC or NCHW."""
    return LAYOUTS[keras.config.image_data_format()]


class LastValue(keras.metrics.Metric):
    """A metric that holds the last value; Keras's own metrics average over the steps."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.last = self.add_variable(shape=(), initializer="zeros", name="last")

    def update_state(self, value: Any) -> None:
        """Take the value of this step."""
        self.last.assign(value)

    def result(self) -> Any:
        """A copy of the value, since the next step overwrites the variable."""
        return ops.copy(self.last)


class TrainedModel(keras.Model):
    """A model whose train step logs this step's loss, without penalties, as LAST_LOSS.

    Its gradients are those of the loss and the layers' penalties, as with every Keras model. Only
    `compute_loss` is overridden, as Keras allows: https://keras.io/api/models/model_training_apis/.
    The loss goes through a metric's variable, because a backend's step may be a pure function.
    """

    def __init__(self, inputs: Any, outputs: Any) -> None:
        super().__init__(inputs, outputs)
        self.last_loss = LastValue(name=LAST_LOSS)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss with the penalties, a scalar."""
        del x, training
        loss = self.loss(y, y_pred, sample_weight)
        self.last_loss.update_state(loss)
        return ops.sum([loss, *self.losses])


class SGD(keras.optimizers.SGD):
    """Keras's SGD, with decayed weights added to the gradients, so that decay is in the momentum.

    The `weight_decay` of Keras's optimizers shrinks the weights without going through the momentum
    (https://keras.io/api/optimizers/sgd/), and a layer's L2 penalty, with the same gradients, takes
    further passes over the weights. ResNet-50 small, batch 8, TensorFlow on two Zen 4 cores, the
    time of `keras.applications` over ours (tests/overhead/stock_peers.py, 5 launches each): with
    penalties 0.88, without 0.98, with `apply_momentum` 1.01.

    Args:
        decay: factor of the weights that is added to their gradients.
        is_decayed: for each variable, in the order of `build`, whether it decays.
        apply_momentum: the backend's operation that updates a variable and its velocity at once, if
            it has one; it takes both, the gradient, the rate and the momentum.
        options: those of `keras.optimizers.SGD`.
    """

    def __init__(
        self,
        *,
        decay: float,
        is_decayed: Sequence[bool],
        apply_momentum: Callable[..., None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._decay = np.float64(decay)  # a Python number would be a float32 in TensorFlow
        self._is_decayed = tuple(is_decayed)
        self._apply_momentum = apply_momentum

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its velocity; not called on torch, where Keras updates lists."""
        if self._apply_momentum is None:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        rate, momentum = (ops.cast(one, variable.dtype) for one in (learning_rate, self.momentum))
        self._apply_momentum(variable, velocity.value, gradient, rate=rate, momentum=momentum)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        """Decay, then update every variable as Keras does on this backend."""
        pairs = zip(grads, trainable_variables)
        decayed = [self._with_decay(gradient, variable) for gradient, variable in pairs]
        super()._backend_update_step(decayed, trainable_variables, learning_rate)

    def _with_decay(self, gradient: Any, variable: Any) -> Any:
        if not self._is_decayed[self._get_variable_index(variable)]:
            return gradient
        return gradient + ops.cast(self._decay, variable.dtype) * variable.value


class Factors(NamedTuple):
    """The factors of step t's update, passed in place of a learning rate; scalars in floatx."""

    rate: Any
    """learning rate * sqrt(1 - beta2^t) / (1 - beta1^t)."""
    epsilon: Any
    """epsilon * sqrt(1 - beta2^t)."""


class Update(NamedTuple):
    """AdamW's inputs and state in one step: the backend's tensors, variable by variable."""

    gradients: list[Any]
    weights: list[Any]
    moments: list[Any]
    second_moments: list[Any]
    kept: list[float]
    """The factor that decay applies to each weight."""
    factors: Factors


class AdamW(keras.optimizers.Optimizer):
    """Loshchilov and Hutter (2019), algorithm 2, at a constant rate, computed in floatx.

    Differs: Keras's own AdamW adds epsilon to the root before bias correction, and computes in the
    variables' dtype, in bf16 as well (Keras 3.15, keras/src/optimizers/adam.py).

    Args:
        constants: learning_rate, beta1, beta2, epsilon and weight_decay.
        is_decayed: for each variable, in the order of `build`, whether each step multiplies it by
            1 - learning_rate * weight_decay.
        update_together: the backend's function that updates all variables at once, if that is
            faster than one by one; it takes an `Update` and the betas.
    """

    def __init__(
        self,
        constants: Mapping[str, float],
        *,
        is_decayed: Sequence[bool],
        update_together: Callable[..., None] | None = None,
    ) -> None:
        # Keras calls this once a step, and passes the result to each variable's update.
        super().__init__(learning_rate=self._factors)
        self._constants = constants
        kept = 1 - constants["learning_rate"] * constants["weight_decay"]
        self._kept = tuple(kept if one else 1.0 for one in is_decayed)
        self._update_together = update_together
        self.moments: list[Any] = []
        self.second_moments: list[Any] = []

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments of each variable, in the variable's dtype."""
        super().build(variables)
        self.moments, self.second_moments = self.add_optimizer_variables(
            variables, ["moment", "second_moment"]
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Factors) -> None:
        """Update one variable and its moments.

        Temporaries are changed in place if the backend can: torch would otherwise allocate memory
        for each result.
        """
        constants, wide = self._constants, keras.config.floatx()
        index = self._get_variable_index(variable)
        moment, second_moment = self.moments[index], self.second_moments[index]
        # TensorFlow's gradient of a lookup is a list of rows: the reshape sums them.
        gradient = ops.reshape(ops.cast(gradient, wide), variable.shape)
        m = _average(gradient, moment, weight=1 - constants["beta1"])
        v = _average(gradient * gradient, second_moment, weight=1 - constants["beta2"])
        self.assign(moment, m)
        self.assign(second_moment, v)
        root = ops.sqrt(v)
        root += learning_rate.epsilon
        m *= learning_rate.rate
        m /= root
        self.assign(variable, ops.cast(variable, wide) * self._kept[index] - m)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Factors
    ) -> None:
        """Update every variable, all at once if the backend has a function for it.

        Keras's own optimizers do so on torch: Keras 3.15,
        keras/src/backend/torch/optimizers/torch_parallel_optimizer.py.
        """
        if self._update_together is None:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        indices = [self._get_variable_index(variable) for variable in trainable_variables]
        update = Update(
            gradients=list(grads),
            weights=[variable.value for variable in trainable_variables],
            moments=[self.moments[index].value for index in indices],
            second_moments=[self.second_moments[index].value for index in indices],
            kept=[self._kept[index] for index in indices],
            factors=learning_rate,
        )
        beta1, beta2 = self._constants["beta1"], self._constants["beta2"]
        self._update_together(update, beta1=beta1, beta2=beta2)

    def _factors(self) -> Factors:
        constants = self._constants
        step = ops.cast(self.iterations, keras.config.floatx()) + 1.0
        # 1 - beta^t by expm1, since rounding beta^t first would lose digits.
        first, second = (
            -ops.expm1(step * math.log(constants[name])) for name in ("beta1", "beta2")
        )
        root = ops.sqrt(second)
        return Factors(
            rate=constants["learning_rate"] * root / first, epsilon=constants["epsilon"] * root
        )


def _average(value: Any, variable: Any, *, weight: float) -> Any:
    """The weighted average of a variable and a value of this weight, in the value's dtype."""
    average = ops.cast(variable, keras.backend.standardize_dtype(value.dtype))
    change = value - average
    change *= weight
    change += average
    return change
