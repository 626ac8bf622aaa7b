"""All notes on a run."""

import dataclasses

import pytest

from benchmarks.contract.evidence import FAIL, Evidence, ParityVerdict
from benchmarks.contract.plan import Cell
from benchmarks.presentation.notes import notes
from tests.unit.analysis import test_recipes as recipes
from tests.unit.analysis.records import case, cohorts, effective, key_of, plan, record, serial
from tests.unit.presentation.test_terminal import BASE, FAST, SLOW, TIMES, summary_of


def told(summary):
    return " ".join(" ".join(notes(summary)).split())


def test_notes_tell_parity_noise_and_advice():
    records = cohorts(TIMES, wobble=0.03)
    records[0] = dataclasses.replace(
        records[0], blocks=record(BASE, 0, [0.2] * 8, flags={2: ["FOREIGN_LOAD"]}).blocks
    )
    text = told(summary_of(records))
    assert (
        "equal work: 3 cases pass: step 1 or the answers of each launch match the float64" in text
    )
    assert "losses within 2e-07" in text
    assert "1 of 24 rounds dropped (FOREIGN_LOAD 1); other processes took at most 1 %" in text
    assert "2 more cohorts would halve the interval of" in text
    assert "protocol.num_cohorts=5" in text
    assert "more rounds would not narrow it" in text


def test_a_share_of_a_peak_stands_with_what_was_counted():
    text = told(summary_of(cohorts(TIMES, wobble=0.0)))
    assert (
        "share of the roofline, the fastest matmul measured here: resnet50_train small b8 cpu:"
        " pytorch eager fp32 20 %, pytorch compiled fp32 27 %, jax compiled fp32 10 %;"
        " counted: convolutions" in text
    )


def test_a_share_of_a_peak_says_of_which_work():
    large = case("jax", "compiled", size="full")
    records = cohorts({BASE: 0.2, large: 0.2}, wobble=0.0)
    text = told(summary_of(records, cases=[BASE, large]))
    assert (
        "measured here: resnet50_train small b8 cpu: pytorch eager fp32 20 %; resnet50_train full"
        " b8 cpu: jax compiled fp32" in text
    )


def test_advice_on_more_rounds_names_the_setting_that_takes_them():
    summary = summary_of(cohorts(TIMES, wobble=0.03))
    ratios = [
        dataclasses.replace(one, effort=dataclasses.replace(one.effort, best_rounds=20))
        for one in summary.ratios
    ]
    text = told(dataclasses.replace(summary, ratios=ratios))
    assert "20 rounds instead of 8 would narrow it too, in a new run" in text
    assert "(protocol.min_rounds=20)" in text


def test_advice_on_more_cohorts_counts_the_one_that_left_no_ratio():
    summary = summary_of(cohorts(TIMES, wobble=0.03))
    ratios = [
        dataclasses.replace(
            one,
            ratio=dataclasses.replace(one.ratio, num_launches=2),
            effort=dataclasses.replace(one.effort, more_cohorts=1),
        )
        for one in summary.ratios
    ]
    text = told(dataclasses.replace(summary, ratios=ratios))
    assert "(protocol.num_cohorts=4)" in text  # 3 were measured


def test_advice_on_more_cohorts_counts_those_with_the_base_alone():
    with_another_base = [record(FAST, number) for number in (10, 11, 12)]
    records = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.03)
    text = told(summary_of([*records, *with_another_base], cases=[BASE, FAST]))
    assert "(protocol.num_cohorts=5)" in text  # 3 were shared, and 2 more are to come


def test_work_that_was_faster_than_every_product_is_told():
    records = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.0)
    records = [
        dataclasses.replace(r, evidence=dataclasses.replace(r.evidence, roof_flop_per_s=3.2e10))
        for r in records
    ]
    text = told(summary_of(records, cases=[BASE, FAST]))
    assert (
        "no roofline: these cases exceeded the fastest matmul measured here: resnet50_train small"
        " b8 cpu: pytorch compiled" in text
    )
    assert "fp32 1.25 times" in text
    assert "20 %" not in text


def test_different_work_and_failing_grades_are_spelled_out():
    proof = ParityVerdict(FAIL, reason="gradient: off by 0.5")
    records = [
        dataclasses.replace(r, evidence=Evidence(parity=proof)) if r.case == FAST else r
        for r in cohorts(TIMES)
    ]
    text = told(summary_of(records))
    assert "different work: pytorch compiled fp32: gradient: off by 0.5" in text
    assert (
        "grade F, its work differs from the reference:"
        " resnet50_train small b8 cpu: pytorch compiled" in text
    )


def with_effective(records, **values):
    """The records, FAST's with these values of what they really worked with."""
    return [
        dataclasses.replace(
            r,
            evidence=dataclasses.replace(
                r.evidence,
                effective=effective(**{"layout": "NHWC", **(values if r.case == FAST else {})}),
            ),
        )
        for r in records
    ]


def test_what_compared_cases_do_not_have_in_common_is_told():
    text = told(summary_of(with_effective(cohorts(TIMES), layout="NCHW")))
    assert "differences (fp32): layout = NHWC (pytorch eager, jax compiled) | NCHW (pytorch" in text
    alike = told(summary_of(with_effective(cohorts(TIMES))))
    assert "differences" not in alike


def test_an_aa_check_is_shown():
    records = cohorts({BASE: 0.2}) + [record(BASE, c, [0.2] * 8, replica=1) for c in range(3)]
    assert "A/A, pytorch eager fp32 against itself" in told(summary_of(records, cases=[BASE]))


def test_what_ran_one_after_another_is_told():
    records = [
        *serial({BASE: 0.2, FAST: 0.1}),
        *(dataclasses.replace(one, run_id="run2") for one in serial({BASE: 0.2})),
        *(dataclasses.replace(one, run_id="run3") for one in cohorts({BASE: 0.2, SLOW: 0.4})),
    ]
    text = told(summary_of(records))
    assert (
        "one after another, not interleaved: resnet50_train small b8 cpu: pytorch eager fp32 (A/A),"
        " pytorch compiled fp32: the four launches of a cohort give one value of the ratio and of"
        " each rate (n counts cohorts); a steady drift of the machine almost cancels, any other"
        " widens the interval; the grade is C at best"
    ) in text
    assert "one after another" not in told(summary_of(cohorts(TIMES)))


def test_an_aa_check_that_is_too_wide_to_tell_says_so():
    steps = (0.2, 0.2 * 1.2, 0.2 / 1.2)
    records = cohorts({BASE: 0.2}, wobble=0.0)
    twins = [record(BASE, c, [step] * 8, replica=1) for c, step in enumerate(steps)]
    text = told(summary_of(records + twins, cases=[BASE]))
    assert "contains 1, but is wider than a tie" in text


def test_disturbed_rounds_without_others_are_shown_as_such():
    most = {r: ["SWAP"] for r in range(6)}
    text = told(summary_of([record(BASE, 0, flags=most)], cases=[BASE]))
    assert (
        "0 of 8 rounds dropped, 6 disturbed ones kept, since there are too few others (SWAP 6)"
        in text
    )


def test_intervals_tell_their_degrees_of_freedom_and_looks():
    records = [
        dataclasses.replace(one, look=2) if one.cohort_id.endswith("3") else one
        for one in cohorts({BASE: 0.2, FAST: 0.1}, num=4)
    ]
    text = told(summary_of(records, cases=(BASE, FAST)))
    assert "small b8 cpu: pytorch compiled fp32 3.0 degrees of freedom, look 2" in text
    assert "those of speeds: n - 1 degrees of freedom" in text


def test_means_are_told_apart_from_undisturbed_speeds():
    """Every third turn of the case takes twice as long: its undisturbed speed does not change."""
    records = [
        *cohorts({BASE: 0.2}, wobble=0.0),
        *(record(FAST, c, [0.1, 0.1, 0.2] * 3) for c in range(3)),
    ]
    summary = summary_of(records, cases=(BASE, FAST))
    text = told(summary)
    assert (
        "mean images/s as experienced, disturbances included: resnet50_train small b8 cpu" in text
    )
    mean = next(one for one in summary.cells if one.case == FAST).measured.mean_items_per_s
    assert mean.estimate == pytest.approx(60)
    assert "pytorch compiled fp32 60.00" in text


def test_the_others_are_told_against_the_fastest():
    text = told(summary_of(cohorts({BASE: 0.2, FAST: 0.1, SLOW: 0.102}, wobble=0.001)))
    assert "against the fastest: resnet50_train small b8 cpu: jax compiled fp32 0.98" in text
    assert "times pytorch compiled fp32" in text


def test_times_that_nothing_was_held_against_are_told():
    times = {one: recipes.TIMES[one] for one in (recipes.TORCH, recipes.JAX)}
    cells = tuple(
        Cell(one, "run", result_key=key_of(one), has_own_clock=one is recipes.JAX) for one in times
    )
    bases = plan(list(times)).bases
    summary = recipes.summary_of(recipes.launches(times), list(times), cells=cells, bases=bases)
    told = [line for line in notes(summary) if "own clock" in line]
    assert len(told) == 1
    assert "jax compiled fp32" in told[0]
    assert "pytorch" not in told[0].partition(": ")[2]
