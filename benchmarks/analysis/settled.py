"""Whether a comparison is settled, so that further measuring would not change what is said."""

from __future__ import annotations

from benchmarks.analysis.ratios import CaseRatio

DECIDED = ("faster", "slower", "same")
FINAL = ("unproven", "not_comparable")
"""Verdicts that no further launch changes."""


def is_settled(one: CaseRatio, *, target_half_width: float) -> bool:
    """Whether the verdict is decided, and the interval at most this wide to each side."""
    if one.verdict in FINAL:
        return True
    half_width = one.ratio.half_width if one.ratio else None
    is_narrow = half_width is not None and half_width <= target_half_width
    return one.verdict in DECIDED and is_narrow
