"""Keras on JAX, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.keras_jax import CAPABILITIES as KERAS
from benchmarks.frameworks.keras_jax import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    KERAS,
    name="plain_keras_jax",
    family="plain_keras",
    precisions=dict.fromkeys(KERAS.precisions, ("fp32", "bf16")),
)
