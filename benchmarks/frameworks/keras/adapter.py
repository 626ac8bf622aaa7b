"""Keras's own part, whatever computes: its settings, and a model whose step tells its loss.

It imports keras, whose backend must stand in the environment by then, and no other framework.
"""

from __future__ import annotations

from typing import Any

import keras

from benchmarks.frameworks.keras.framework import LAST_LOSS

DTYPE_POLICIES = {
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "mixed_bfloat16",
    "fp16": "mixed_float16",
    "fp64": "float64",
}
"""Keras's name of each precision; the mixed ones keep variables and losses in float32."""

IMAGE_DATA_FORMAT = "channels_last"
"""For every backend. Where torch computes, Keras hands these images to it as views in its own
channels_last layout, copied nowhere; ResNet-50 took as long or longer with channels_first."""

LAYOUTS = {"channels_last": "NHWC", "channels_first": "NCHW"}


def configure(*, backend: str, precision: str) -> None:
    """Set the precision of layers to come; RuntimeError where keras has another backend."""
    chosen = keras.config.backend()
    if chosen != backend:
        raise RuntimeError(
            f"keras computes with {chosen}, expected {backend}\n"
            f"hint: KERAS_BACKEND={backend} must stand before keras is imported"
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
    """A metric that is the last value it was given, where Keras's own average over the steps."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.last = self.add_variable(shape=(), initializer="zeros", name="last")

    def update_state(self, value: Any) -> None:
        """Take the value of this step."""
        self.last.assign(value)

    def result(self) -> Any:
        """The value, apart from the variable, which the next step overwrites."""
        return keras.ops.copy(self.last)


class TrainedModel(keras.Model):
    """A model of layers whose step logs the compiled loss alone, of this step, as LAST_LOSS.

    Its gradients are those of the loss and the layers' penalties, as with every Keras model.
    `compute_loss` is where Keras lets a model say so: all that surrounds it stays Keras's own,
    https://keras.io/api/models/model_training_apis/. The loss goes through a metric's variable,
    because a backend's step may be a pure function.
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
        return keras.ops.sum([loss, *self.losses])
