"""MLX as it comes, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.mlx import CAPABILITIES as MLX
from benchmarks.frameworks.mlx import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    MLX,
    name="plain_mlx",
    precisions=dict.fromkeys(MLX.precisions, ("fp32",)),
)
