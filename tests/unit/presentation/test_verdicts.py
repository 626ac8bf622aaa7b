"""Verdicts as they are shown."""

from typing import get_args

import pytest

from benchmarks.presentation.verdicts import VERDICTS, verdict_text
from benchmarks.statistics.ratios import RatioVerdict


def test_every_verdict_is_shown_in_its_own_words_and_symbols():
    assert set(VERDICTS) == set(get_args(RatioVerdict))
    for column in ("symbol", "plain", "words"):
        assert len({getattr(shown, column) for shown in VERDICTS.values()}) == len(VERDICTS)


@pytest.mark.parametrize(
    ("verdict", "ascii_only", "text"),
    [
        ("faster", False, "▲ faster"),
        ("faster", True, "^ faster"),
        ("cant_tell", True, "? can't tell"),
        ("not_comparable", False, "⊘ not comparable"),
    ],
)
def test_verdicts_have_a_symbol_and_words(verdict, ascii_only, text):
    assert verdict_text(verdict, ascii_only=ascii_only) == text
