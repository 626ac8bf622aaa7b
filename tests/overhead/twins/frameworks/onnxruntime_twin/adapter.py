"""ONNX Runtime's own adapter."""

from __future__ import annotations

from benchmarks.frameworks.onnxruntime.adapter import Adapter

__all__ = ["Adapter"]
