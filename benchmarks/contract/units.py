"""Bytes in units that are easy to read. Standard library only."""

from __future__ import annotations

GIB = 2**30
"""Bytes in one GiB."""


def in_gib(num_bytes: float) -> str:
    """Bytes as GiB with one decimal: `1.5 GiB`."""
    return f"{num_bytes / GIB:.1f} GiB"
