"""Keras on TensorFlow, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.keras_tensorflow import CAPABILITIES as KERAS
from benchmarks.frameworks.keras_tensorflow import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    KERAS,
    name="plain_keras_tensorflow",
    family="plain_keras",
    precisions=dict.fromkeys(KERAS.precisions, ("fp32", "bf16")),
)
