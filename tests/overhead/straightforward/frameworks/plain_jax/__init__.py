"""JAX as it comes, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.jax import CAPABILITIES as JAX
from benchmarks.frameworks.jax import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(JAX, name="plain_jax", holds_oracle=False)
