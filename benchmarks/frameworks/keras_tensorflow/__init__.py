"""Keras on TensorFlow: its capabilities and its environment. Imports no framework."""

from __future__ import annotations

from benchmarks.contract.framework import Settings
from benchmarks.frameworks import keras, tensorflow

CAPABILITIES = keras.capabilities(
    tensorflow.CAPABILITIES,
    name="keras_tensorflow",
    distributions=tensorflow.CAPABILITIES.distributions,
    has_float64=True,
)


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before tensorflow and keras are imported."""
    return {**tensorflow.environment(settings), **keras.environment("tensorflow", settings)}
