"""MLX's own adapter: fences and devices are the harness's business, and no tuning."""

from __future__ import annotations

from benchmarks.frameworks.mlx.adapter import Adapter

__all__ = ["Adapter"]
