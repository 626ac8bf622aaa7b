"""Bytes and seconds as people read them. Standard library only."""

from __future__ import annotations

GIB = 2**30
"""Bytes in one GiB."""


def in_gib(num_bytes: float) -> str:
    """Bytes as GiB with one decimal: `1.5 GiB`."""
    return f"{num_bytes / GIB:.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: `40 s`, `12 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
