"""The verdicts as they are shown: the one table of their symbols, words and styles."""

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


VERDICTS: Mapping[RatioVerdict, Shown] = {
    "faster": Shown("▲", "^", "faster", "green"),
    "same": Shown("=", "=", "same"),
    "slower": Shown("▼", "v", "slower", "red"),
    "cant_tell": Shown("?", "?", "can't tell"),
    "unproven": Shown("!", "!", "unproven", "yellow"),
    "not_comparable": Shown("⊘", "x", "not comparable", "yellow"),
}


def symbol(verdict: RatioVerdict, *, ascii_only: bool) -> str:
    """A verdict as a symbol."""
    shown = VERDICTS[verdict]
    return shown.plain if ascii_only else shown.symbol


def verdict_text(verdict: RatioVerdict, *, ascii_only: bool) -> str:
    """A verdict as symbol and words."""
    return f"{symbol(verdict, ascii_only=ascii_only)} {VERDICTS[verdict].words}"
