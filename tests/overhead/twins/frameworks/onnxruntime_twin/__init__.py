"""ONNX Runtime under another name, so that it can be compared with itself."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.onnxruntime import CAPABILITIES as ONNXRUNTIME
from benchmarks.frameworks.onnxruntime import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    ONNXRUNTIME, name="onnxruntime_twin", family="onnxruntime", holds_oracle=False
)
