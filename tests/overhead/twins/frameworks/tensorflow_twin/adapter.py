"""TensorFlow's own adapter."""

from __future__ import annotations

from benchmarks.frameworks.tensorflow.adapter import Adapter

__all__ = ["Adapter"]
