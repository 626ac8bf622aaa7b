"""JAX's own adapter."""

from __future__ import annotations

from benchmarks.frameworks.jax.adapter import Adapter

__all__ = ["Adapter"]
