"""Keras on PyTorch, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.keras_torch import CAPABILITIES as KERAS
from benchmarks.frameworks.keras_torch import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    KERAS,
    name="plain_keras_torch",
    family="plain_keras",
    precisions=dict.fromkeys(KERAS.precisions, ("fp32", "bf16")),
)
