"""Aligned columns of plain text."""

from benchmarks.presentation.columns import aligned


def test_columns_are_as_wide_as_their_widest_entry():
    assert aligned([("a", "bb", 1), ("ccc", "d", 22)], indent=" ") == [
        " a    bb  1",
        " ccc  d   22",
    ]


def test_no_line_ends_in_blanks():
    assert aligned([("a", ""), ("b", "c")]) == ["a", "b  c"]


def test_no_rows_are_no_lines():
    assert aligned([]) == []


def test_control_characters_are_taken_out():
    assert aligned([("a\x1b[31m\nb",)]) == ["a b"]
