"""Numbers and text as they are printed."""

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.presentation.wording import (
    clean,
    count,
    duration,
    joined,
    number,
    seconds,
    way_name,
    with_interval,
)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((123.4, 120.1, 126.9), "123 [120, 127]"),
        ((1.3217, 1.281, 1.362), "1.32 [1.28, 1.36]"),
        ((12345.6, 12001.0, 12690.0), "12,300 [12,000, 12,700]"),
        ((1.00004, 1.00001, 1.00007), "1.0000 [1.0000, 1.0001]"),
        ((0.1234, 0.0934, 0.1534), "0.12 [0.09, 0.15]"),
        ((34.6, 26.6, 45.9), "35 [27, 46]"),
        ((34.6, 24.1, 48.2), "35 [24, 48]"),
        ((34.6, 20.5, 61.2), "30 [20, 60]"),
        ((3.0, 1.0, 3.0), "3.0 [1.0, 3.0]"),
        ((34.6, 13.9, 61.2), "not known"),
        ((150.0, 20.0, 1220.0), "not known"),
        ((123.4, None, None), "120"),
        ((1.678, None, None), "1.7"),
        ((2.0, 2.0, 2.0), "2 [2, 2]"),
    ],
)
def test_digits_stop_at_the_half_width(numbers, text):
    assert with_interval(*numbers) == text


def test_an_interval_may_stand_beneath():
    assert with_interval(1.32, 1.28, 1.36, separator="\n") == "1.32\n[1.28, 1.36]"


def test_seconds_have_two_digits():
    assert [seconds(v) for v in (0.1345, 2.13, 123.0, 0.0)] == ["0.13 s", "2.1 s", "120 s", "0.0 s"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(40, "40 s"), (89.6, "90 s"), (720, "12 min"), (5399, "1 h 30 min"), (12600, "3 h 30 min")],
)
def test_durations_are_told_as_people_do(value, text):
    assert duration(value) == text


def test_numbers_round_before_the_point_too():
    assert number(1250.0, -2) == "1,200"


def test_text_of_a_record_cannot_command_the_terminal():
    assert clean("a\x1b[31mred\x1b]0;title\x07\r\nb\x00\u202ec") == "ared ]0;title b c"
    assert clean("[bold]x[/bold]") == "[bold]x[/bold]"
    assert len(clean("x" * 1000)) == 300


def test_counts_take_a_plural():
    assert [count(1, "launch"), count(3, "launch"), count(2, "round")] == [
        "1 launch",
        "3 launches",
        "2 rounds",
    ]


def test_names_are_joined_as_people_do():
    assert [joined(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]


@pytest.mark.parametrize(
    ("recompute", "text"),
    [("none", "jax compiled bf16"), ("full", "jax compiled bf16 recompute=full")],
)
def test_an_option_of_the_way_is_told_unless_it_is_none(recompute, text):
    way = Way("jax", "compiled", "bf16", (("recompute", recompute),))
    assert way_name(Case(Work("toy", 1, "tiny", 2), way, Place("cpu"))) == text
