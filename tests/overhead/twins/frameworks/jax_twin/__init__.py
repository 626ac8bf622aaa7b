"""JAX under another name, so that it can be compared with itself."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.jax import CAPABILITIES as JAX
from benchmarks.frameworks.jax import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(JAX, name="jax_twin", family="jax", holds_oracle=False)
