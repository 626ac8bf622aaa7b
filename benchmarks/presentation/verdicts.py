"""The verdicts as they are shown: the one table of their symbols, words, styles and order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.statistics.ratios import RatioVerdict


class Shown(NamedTuple):
    """How one verdict is shown."""

    symbol: str
    plain: str
    """Replaces the symbol if the terminal has ASCII only."""
    words: str
    style: str = ""
    ranks: bool = False
    """Whether the verdict ranks a case, so that a run's sentence may state it."""


VERDICTS: Mapping[RatioVerdict, Shown] = {
    "faster": Shown("▲", "^", "faster", "green", ranks=True),
    "same": Shown("=", "=", "same", ranks=True),
    "slower": Shown("▼", "v", "slower", "red", ranks=True),
    "cant_tell": Shown("?", "?", "can't tell"),
    "unproven": Shown("!", "!", "unproven", "yellow"),
    "not_comparable": Shown("⊘", "x", "not comparable", "yellow"),
}
"""A run's sentence states the first of the verdicts that rank."""


def verdict_text(verdict: RatioVerdict, *, ascii_only: bool) -> str:
    """A verdict as symbol and words."""
    shown = VERDICTS[verdict]
    return f"{shown.plain if ascii_only else shown.symbol} {shown.words}"
