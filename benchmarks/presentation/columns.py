"""Rows of plain text in aligned columns, readable without colour and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.presentation.wording import clean

GAP = "  "


def aligned(rows: Iterable[Sequence[object]], *, indent: str = "") -> list[str]:
    """The rows as lines without control characters, each column as wide as its widest entry."""
    texts = [[clean(str(entry)) for entry in row] for row in rows]
    if not texts:
        return []
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        indent
        + GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]
