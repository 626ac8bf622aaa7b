"""The verdicts as they are shown: the one table of their symbols, words, styles and order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.statistics.ratios import RatioVerdict


class Shown(NamedTuple):
    """How one verdict is shown."""

    symbol: str
    plain: str
    """Stands in for the symbol when the terminal has ASCII only."""
    words: str
    style: str = ""
    ranks: bool = False
    """Whether a run's sentence may rest on it."""


VERDICTS: Mapping[RatioVerdict, Shown] = {
    "faster": Shown("▲", "^", "faster", "green", ranks=True),
    "same": Shown("=", "=", "same", ranks=True),
    "slower": Shown("▼", "v", "slower", "red", ranks=True),
    "cant_tell": Shown("?", "?", "can't tell"),
    "unproven": Shown("!", "!", "unproven", "yellow"),
    "not_comparable": Shown("⊘", "x", "not comparable", "yellow"),
}
"""Among those that rank, a run's sentence leads with the first."""


def verdict_text(verdict: RatioVerdict, *, ascii_only: bool) -> str:
    """A verdict as symbol and words."""
    shown = VERDICTS[verdict]
    return f"{shown.plain if ascii_only else shown.symbol} {shown.words}"
