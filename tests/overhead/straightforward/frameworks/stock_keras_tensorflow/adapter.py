"""Keras's own adapter: fences, devices and driving a train step are the harness's business."""

from __future__ import annotations

from benchmarks.frameworks.keras_tensorflow.adapter import Adapter

__all__ = ["Adapter"]
