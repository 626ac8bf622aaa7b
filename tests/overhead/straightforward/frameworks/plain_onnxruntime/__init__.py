"""ONNX Runtime as it comes, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.onnxruntime import CAPABILITIES as ENGINE
from benchmarks.frameworks.onnxruntime import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    ENGINE, name="plain_onnxruntime", precisions={"cpu": ("fp32", "int8")}
)
