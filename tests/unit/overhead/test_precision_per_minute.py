from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest

from tests.overhead.precision_per_minute import (
    OTHER,
    THIS,
    Series,
    Step,
    geometric_mean,
    order,
    rows,
    series_from,
    step_of,
)


def ratio(case: str, half_width: float | None) -> dict[str, Any]:
    low, high = (None, None) if half_width is None else (1.0, math.exp(2 * half_width))
    return {"case": case, "ratio": 1.0, "low": low, "high": high}


def series(
    checkout: str, *seconds: float, repeat: int = 0, width: float = 0.03, is_reached: bool = True
) -> Series:
    steps = tuple(Step(3 + i, one, {"case": width}, 1) for i, one in enumerate(seconds))
    return Series(checkout, "a", repeat, steps, is_reached)


def test_a_step_is_read_from_the_ratios_of_any_version() -> None:
    step = step_of({"ratios": [ratio("a", 0.02), ratio("b", 0.05), ratio("c", 0.03)]}, 4, 60.0)
    assert step.half_widths == pytest.approx({"a": 0.02, "b": 0.05, "c": 0.03})
    assert (step.num_cohorts, step.seconds) == (4, 60.0)
    assert step.median_half_width == pytest.approx(0.03)


def test_a_ratio_without_an_interval_counts_as_infinitely_wide() -> None:
    ratios = [ratio("a", 0.02), ratio("b", 0.03), ratio("c", None)]
    assert step_of({"ratios": ratios}, 3, 1.0).median_half_width == pytest.approx(0.03)
    assert step_of({"ratios": ratios[1:]}, 3, 1.0).median_half_width == math.inf
    assert step_of({"ratios": []}, 3, 1.0).median_half_width == math.inf


def test_both_checkouts_measure_the_same_and_each_is_first_half_of_the_time() -> None:
    planned = order(["a", "b"], 3)
    assert Counter(name for *_, name in planned) == {THIS: 6, OTHER: 6}
    pairs = list(zip(planned[::2], planned[1::2], strict=True))
    assert all(one[:2] == other[:2] for one, other in pairs)
    assert Counter(one[2] for one, _ in pairs) == {THIS: 3, OTHER: 3}


def test_a_kept_series_is_read_back_as_it_was() -> None:
    own = series(THIS, 30.0, 12.0)
    assert series_from(json.loads(json.dumps(asdict(own)))) == own


def test_the_time_of_a_series_is_that_of_its_commands() -> None:
    assert series(THIS, 30.0, 12.0, 10.0).seconds == 52.0


def test_means_are_geometric() -> None:
    assert geometric_mean([series(THIS, 10.0), series(THIS, 40.0)]) == pytest.approx(20.0)
    assert geometric_mean([]) is None


def test_the_table_has_the_quotient_of_the_means() -> None:
    found = [series(THIS, 10.0), series(THIS, 30.0, 10.0), series(OTHER, 50.0, 30.0)]
    _, this, other = rows(found, ["a"])
    assert this == ("a", "this", "10, 40", "3, 4", "3.0, 3.0", "20", "0.25")
    assert other == ("a", "other", "80", "4", "3.0", "80", "")


@pytest.mark.parametrize(
    ("this_reached", "other_reached", "expected"),
    [(True, True, "0.50"), (False, True, ">0.50"), (True, False, "<0.50"), (False, False, "?")],
)
def test_a_target_that_was_missed_makes_the_quotient_a_bound(
    this_reached: bool, other_reached: bool, expected: str
) -> None:
    found = [
        series(THIS, 10.0, is_reached=this_reached),
        series(OTHER, 20.0, is_reached=other_reached),
    ]
    _, this, other = rows(found, ["a"])
    assert this[-1] == expected
    assert other[2].startswith(">") != other_reached


def test_without_both_checkouts_there_is_no_quotient() -> None:
    _, this, other = rows([series(THIS, 10.0)], ["a"])
    assert (this[-1], other[2], other[5]) == ("?", "", "?")
