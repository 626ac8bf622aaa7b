"""ONNX Runtime's own adapter: self-tests are the harness's business, and no tuning."""

from __future__ import annotations

from benchmarks.frameworks.onnxruntime.adapter import Adapter

__all__ = ["Adapter"]
