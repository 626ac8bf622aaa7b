"""PyTorch under another name, so that it can be compared with itself."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.pytorch import CAPABILITIES as PYTORCH
from benchmarks.frameworks.pytorch import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    PYTORCH, name="pytorch_twin", family="pytorch", holds_oracle=False
)
