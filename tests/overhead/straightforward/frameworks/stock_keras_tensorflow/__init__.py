"""Keras's own applications on TensorFlow, in the environment of Dyno's Keras."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.keras_tensorflow import CAPABILITIES as KERAS
from benchmarks.frameworks.keras_tensorflow import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    KERAS,
    name="stock_keras_tensorflow",
    family="stock_keras_tensorflow",
    precisions={"cpu": ("fp32",)},
)
