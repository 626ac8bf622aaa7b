"""OpenVINO as it comes, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.openvino import CAPABILITIES as ENGINE
from benchmarks.frameworks.openvino import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    ENGINE, name="plain_openvino", precisions={"cpu": ("fp32", "bf16", "int8")}
)
