"""LiteRT as it comes, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.frameworks.litert import CAPABILITIES as ENGINE
from benchmarks.frameworks.litert import environment

__all__ = ["CAPABILITIES", "environment"]

CAPABILITIES = dataclasses.replace(
    ENGINE, name="plain_litert", precisions={"cpu": ("fp32", "int8")}
)
