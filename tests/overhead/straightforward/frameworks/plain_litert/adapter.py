"""LiteRT's own adapter: the self-tests and values are the harness's business, and no tuning."""

from __future__ import annotations

from benchmarks.frameworks.litert.adapter import Adapter

__all__ = ["Adapter"]
