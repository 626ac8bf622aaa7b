"""PyTorch whose training steps make extra products, so that they take 3 % longer."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.pytorch import CAPABILITIES as PYTORCH
from benchmarks.frameworks.pytorch import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    PYTORCH, name="pytorch_slow3", family="pytorch_slow", holds_oracle=False
)
