"""The table of a group: its columns, and the layouts of each width."""

import dataclasses

import pytest

from benchmarks.contract.evidence import Evidence
from tests.unit.analysis.records import PASSED, case, cohorts, products, record
from tests.unit.presentation.test_terminal import BASE, FAST, SLOW, TIMES, rendered, row, summary_of


def test_a_measured_row_has_rate_ratio_verdict_launches_grade_and_use():
    line = row(rendered(summary_of(cohorts(TIMES, wobble=0.004))), "pytorch compiled")
    assert "[52.7, 53.9]" in line
    assert "1.33 [1.31, 1.36] ▲ faster" in line
    assert line.split()[-3:] == ["3", "B", "ranked"]


def test_a_base_has_no_grade():
    line = row(rendered(summary_of(cohorts(TIMES, wobble=0.004))), "pytorch eager")
    assert line.split()[-3:] == ["base", "3", "base"]


def test_memory_and_the_first_step_are_shown_from_110_columns():
    summary = summary_of(cohorts(TIMES, wobble=0.004))
    assert "GiB" not in row(rendered(summary, width=109), "case")
    line = row(rendered(summary, width=110), "pytorch compiled")
    assert line.split()[-6:] == ["3", "2.0", "s", "1.00", "B", "ranked"]


def test_means_have_a_column_of_their_own_if_there_is_room():
    summary = summary_of(cohorts(TIMES, wobble=0.004))
    assert "mean" not in rendered(summary, width=80)
    heading = row(rendered(summary, width=140), "case")
    assert "undisturbed images/s" in heading
    assert "mean images/s" in heading


def test_n_counts_the_launches_of_the_ratio_beside_it():
    """The base took part in two cohorts more than the case."""
    records = [*cohorts({BASE: 0.2}, num=5), *cohorts({FAST: 0.1})]
    text = rendered(summary_of(records, cases=(BASE, FAST)))
    assert row(text, "pytorch eager").split()[-2] == "5"
    assert row(text, "pytorch compiled").split()[-3] == "3"


def test_a_verdict_is_a_symbol_where_words_have_no_room():
    text = rendered(summary_of(cohorts({BASE: 0.2, FAST: 0.15}, wobble=0.004)), width=72)
    line = next(line for line in text.splitlines() if line.startswith("pytorch compiled 5"))
    assert "1.33 [1.31, 1.36] ▲ " in line
    assert "faster" not in line


def test_numbers_known_within_a_factor_of_three_only_are_not_known():
    records = [
        record(one, c, [step_s] * 8)
        for c, factor in enumerate((1.0, 3.0, 0.4))
        for one, step_s in ((BASE, 0.2), (FAST, 0.1 * factor))
    ]
    line = row(rendered(summary_of(records, cases=(BASE, FAST))), "pytorch compiled")
    assert line.split()[2:8] == ["not", "known", "not", "known", "?", "can't"]


@pytest.mark.parametrize("width", [80, 100, 110, 140])
def test_lines_fit_and_names_and_intervals_are_whole(width):
    long = case("keras_tensorflow", "compiled", "bf16_pure")
    times = {BASE: 0.2, FAST: 0.1512, SLOW: 0.4, long: 0.00123}
    summary = summary_of(cohorts(times, wobble=0.0004), cases=tuple(times))
    text = rendered(summary, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    for whole in ("pytorch", "compiled", "keras_tensorflow", "bf16_pure"):
        assert whole in text.split()
    assert "…" not in text


@pytest.mark.parametrize(
    ("seen", "computed_in", "shown"),
    [
        ("tf32", "float32", "pytorch eager, like tf32"),
        ("fp32", "float32", "pytorch eager "),
    ],
)
def test_a_row_tells_the_precision_that_really_ran(seen, computed_in, shown):
    evidence = Evidence(parity=PASSED, precision=products(seen))
    settings = {"effective": {"products": computed_in}}
    records = [
        dataclasses.replace(r, evidence=evidence, settings=settings) for r in cohorts({BASE: 0.2})
    ]
    assert shown in row(rendered(summary_of(records, cases=[BASE])), "pytorch eager")


def test_a_row_of_int8_is_not_named_after_the_adapters_own_products():
    small = case(precision="int8")
    evidence = Evidence(parity=PASSED, precision=products("fp32"))
    settings = {"effective": {"products": "float32"}}
    records = [
        dataclasses.replace(r, evidence=evidence, settings=settings) for r in cohorts({small: 0.2})
    ]
    shown = row(rendered(summary_of(records, cases=[small])), "pytorch eager")
    assert "like" not in shown


def test_a_row_tells_bf16_that_is_computed_in_fp32():
    half = case(precision="bf16")
    evidence = Evidence(parity=PASSED, precision=products("bf16"))
    settings = {"effective": {"products": "float32"}}
    records = [
        dataclasses.replace(r, evidence=evidence, settings=settings) for r in cohorts({half: 0.2})
    ]
    assert "pytorch eager, in fp32" in rendered(summary_of(records, cases=[half]))
