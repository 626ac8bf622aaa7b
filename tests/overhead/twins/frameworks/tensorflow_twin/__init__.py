"""TensorFlow under another name, so that it can be compared with itself."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.tensorflow import CAPABILITIES as TENSORFLOW
from benchmarks.frameworks.tensorflow import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    TENSORFLOW, name="tensorflow_twin", family="tensorflow", holds_oracle=False
)
