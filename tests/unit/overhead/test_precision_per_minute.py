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
    Lines,
    Series,
    Step,
    geometric_mean,
    order,
    prefixes,
    rows,
    series_from,
    step_of,
)


def ratio(case: str, half_width: float | None) -> dict[str, Any]:
    low, high = (None, None) if half_width is None else (1.0, math.exp(2 * half_width))
    return {"case": case, "ratio": 1.0, "low": low, "high": high}


def series(checkout: str, *steps: tuple[float, float]) -> Series:
    """One run, whose median half-width was the second number after as many seconds as the first."""
    return Series(checkout, "a", 0, tuple(Step(at, {"case": width}, 1) for at, width in steps))


def line(cohort: str, status: str = "ok") -> str:
    return json.dumps({"rec": {"cohort_id": cohort, "status": status}}) + "\n"


def test_a_step_is_read_from_the_ratios_of_any_version() -> None:
    step = step_of({"ratios": [ratio("a", 0.02), ratio("b", 0.05), ratio("c", 0.03)]}, 60.0)
    assert step.half_widths == pytest.approx({"a": 0.02, "b": 0.05, "c": 0.03})
    assert step.seconds == 60.0
    assert step.median_half_width == pytest.approx(0.03)


def test_a_ratio_without_an_interval_counts_as_infinitely_wide() -> None:
    ratios = [ratio("a", 0.02), ratio("b", 0.03), ratio("c", None)]
    assert step_of({"ratios": ratios}, 1.0).median_half_width == pytest.approx(0.03)
    assert step_of({"ratios": ratios[1:]}, 1.0).median_half_width == math.inf
    assert step_of({"ratios": []}, 1.0).median_half_width == math.inf


def test_both_checkouts_measure_the_same_and_each_is_first_half_of_the_time() -> None:
    planned = order(["a", "b"], 3)
    assert Counter(name for *_, name in planned) == {THIS: 6, OTHER: 6}
    pairs = list(zip(planned[::2], planned[1::2], strict=True))
    assert all(one[:2] == other[:2] for one, other in pairs)
    assert Counter(one[2] for one, _ in pairs) == {THIS: 3, OTHER: 3}


def test_a_kept_series_is_read_back_as_it_was() -> None:
    own = series(THIS, (30.0, 0.1), (42.0, 0.05))
    assert series_from(json.loads(json.dumps(asdict(own)))) == own


def test_a_half_width_is_reached_when_it_stays_there() -> None:
    own = series(THIS, (30.0, math.inf), (60.0, 0.05), (90.0, 0.08), (120.0, 0.06), (150.0, 0.04))
    assert own.seconds_to(0.06) == 120.0
    assert own.seconds_to(0.1) == 60.0
    assert own.seconds_to(0.02) is None
    assert series(THIS).seconds_to(0.1) is None


def test_a_cohort_ends_with_the_first_record_of_the_next_or_the_last_of_all() -> None:
    lines = [
        Lines(30.0, line("0/0")),
        Lines(31.0, line("0/0") + line("0/1")),
        Lines(70.0, line("0/1")),
        Lines(90.0, line("0/2", "interrupted")),
    ]
    found = list(prefixes(lines))
    assert [(one.seconds, one.text.count("\n")) for one in found] == [(31.0, 2), (70.0, 4)]
    assert "interrupted" not in found[-1].text
    assert not list(prefixes([]))


def test_means_are_geometric() -> None:
    assert geometric_mean([10.0, 40.0]) == pytest.approx(20.0)
    assert geometric_mean([]) is None


def test_the_table_has_the_quotient_of_the_means_at_each_half_width() -> None:
    found = [
        series(THIS, (10.0, 0.14), (20.0, 0.05)),
        series(THIS, (40.0, 0.05)),
        series(OTHER, (80.0, 0.05)),
    ]
    by_width = {row[1]: row for row in rows(found, ["a"], 300.0)[1:]}
    assert by_width["15"] == ("a", "15", "10, 40", "80", "4.00")
    assert by_width["6"] == ("a", "6", "20, 40", "80", "2.83")
    assert by_width["4"] == ("a", "4", ">300, >300", ">300", "?")


@pytest.mark.parametrize(
    ("this", "other", "expected"),
    [(0.05, 0.05, "2.00"), (0.9, 0.05, "<0.07"), (0.05, 0.9, ">30.00"), (0.9, 0.9, "?")],
)
def test_a_target_that_was_missed_makes_the_quotient_a_bound(
    this: float, other: float, expected: str
) -> None:
    found = [series(THIS, (10.0, this)), series(OTHER, (20.0, other))]
    assert {row[1]: row for row in rows(found, ["a"], 300.0)}["10"][-1] == expected


def test_without_both_checkouts_there_is_no_quotient() -> None:
    row = rows([series(THIS, (10.0, 0.05))], ["a"], 300.0)[1]
    assert row == ("a", "15", "10", "?", "?")
