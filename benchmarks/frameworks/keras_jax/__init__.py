"""Keras on JAX: its capabilities and its environment. Imports no framework."""

from __future__ import annotations

from benchmarks.contract.framework import Settings
from benchmarks.frameworks import jax, keras

CAPABILITIES = keras.capabilities(
    jax.CAPABILITIES,
    name="keras_jax",
    distributions=("jax", "jaxlib"),
    has_float64=False,
)


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before jax and keras are imported."""
    return {**jax.environment(settings), **keras.environment("jax", settings)}
