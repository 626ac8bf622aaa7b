"""OpenVINO's own adapter."""

from __future__ import annotations

from benchmarks.frameworks.openvino.adapter import Adapter

__all__ = ["Adapter"]
