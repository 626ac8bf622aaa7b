"""PyTorch's own adapter."""

from __future__ import annotations

from benchmarks.frameworks.pytorch.adapter import Adapter

__all__ = ["Adapter"]
