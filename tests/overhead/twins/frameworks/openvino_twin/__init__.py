"""OpenVINO under another name, so that it can be compared with itself."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.openvino import CAPABILITIES as OPENVINO
from benchmarks.frameworks.openvino import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    OPENVINO, name="openvino_twin", family="openvino", holds_oracle=False
)
