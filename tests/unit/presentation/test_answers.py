"""The sentences that answer a group: planted groups, and what is said of them."""

import dataclasses

import pytest

from benchmarks.contract.evidence import FAIL, Evidence, ParityVerdict
from benchmarks.presentation.answers import answers
from tests.unit.analysis import test_recipes as recipes
from tests.unit.analysis.records import case, cohorts, failed, record, serial
from tests.unit.presentation.test_terminal import BASE, FAST, SLOW, summary_of

OTHER = case("jax", "eager")
WORK = {"cases": (BASE, FAST, SLOW, OTHER)}


def said(records, **changes):
    summary = summary_of(records, **{**WORK, **changes})
    return answers(summary.cells, summary)


def only(records, **changes):
    [sentence] = said(records, **changes)
    return sentence


def noisy(times, *, spread, num=3):
    """Launches in which the first case alone varies by this factor, the others do not."""
    first, *others = times
    shifts = (1.0, spread, 1 / spread)
    return [
        *(record(first, c, [times[first] * shifts[c % 3]] * 8) for c in range(num)),
        *(record(one, c, [times[one]] * 8) for c in range(num) for one in others),
    ]


def test_the_fastest_by_how_much_how_sure_and_from_how_many_launches():
    assert only(cohorts({BASE: 0.2, FAST: 0.15, SLOW: 0.4}, wobble=0.004)) == (
        "pytorch compiled is fastest: 1.33 [1.31, 1.36] times pytorch eager"
        " (95 % interval, 3 launches)"
    )


def test_others_that_are_not_told_apart_from_the_fastest_are_named():
    """Of three that are faster than the base, one is clearly slower than the fastest."""
    records = [
        *cohorts({BASE: 0.2, OTHER: 0.15}, wobble=0.001),
        *(
            record(one, c, [step_s * factor] * 8)
            for c in range(3)
            for one, step_s, factor in ((FAST, 0.1, 1.0), (SLOW, 0.103, (1, 1.01, 0.99)[c]))
        ),
    ]
    sentence = only(records)
    assert sentence.startswith(
        "the fastest is pytorch compiled or jax compiled, not told apart: pytorch compiled is 2.0"
    )


def test_two_that_both_beat_the_base_are_told_apart_by_their_own_ratio():
    """The base varies by 10 %, in the same cohorts for both: their own ratio does not."""
    sentence = only(noisy({BASE: 0.3, FAST: 0.1, SLOW: 0.108}, spread=1.1))
    assert sentence.startswith("pytorch compiled is fastest: ")
    assert "jax compiled" not in sentence


def test_a_tie_with_the_fastest_is_told():
    sentence = only(cohorts({BASE: 0.2, FAST: 0.1, SLOW: 0.1001}, wobble=0.0005))
    assert sentence.endswith("; jax compiled ties with it")


def test_a_tie_with_the_base_is_told():
    sentence = only(cohorts({BASE: 0.2, FAST: 0.2, SLOW: 0.4}, wobble=0.001))
    assert sentence.startswith("pytorch compiled and pytorch eager tie: it is 1.0")
    assert sentence.endswith(
        "times pytorch eager (95 % interval, 3 launches); slower: jax compiled"
    )


def test_a_base_that_nothing_beats_is_fastest():
    sentence = only(cohorts({BASE: 0.2, FAST: 0.25, SLOW: 0.4}, wobble=0.001))
    assert sentence.startswith("pytorch eager is fastest: the next, pytorch compiled, is 0.80")


def test_nothing_is_fastest_that_may_be_as_slow_as_the_base():
    """By its estimate the compiled case is the fastest."""
    records = [
        *cohorts({BASE: 0.2, SLOW: 0.4}, wobble=0.0),
        *(record(FAST, c, [0.19 * (1, 1.1, 0.9)[c]] * 8) for c in range(3)),
    ]
    assert only(records) == (
        "the fastest is not decided: pytorch compiled is not told apart from pytorch eager"
        " (3 launches); slower: jax compiled"
    )


def test_how_much_is_not_said_if_it_is_not_known():
    factors = (1.0, 1.7, 1 / 1.7)
    records = [
        *cohorts({BASE: 100.0}, wobble=0.0),
        *(record(FAST, c, [0.1 * factors[c]] * 8) for c in range(3)),
    ]
    assert only(records) == (
        "pytorch compiled is fastest: faster than pytorch eager, by how much is not known"
        " (3 launches)"
    )


def test_serial_launches_are_counted_by_cohorts():
    assert only(serial({BASE: 0.2, FAST: 0.1})).endswith("(95 % interval, 3 cohorts)")


def test_serial_cases_without_common_cohorts_are_told_apart_by_their_intervals():
    def beside_the_base(one, step_s, run):
        return [
            dataclasses.replace(found, run_id=run)
            for found in serial({BASE: 0.2, one: step_s}, drift=0.001)
        ]

    near = [*beside_the_base(FAST, 0.1, "run1"), *beside_the_base(SLOW, 0.1001, "run2")]
    assert ", not told apart: " in only(near)
    far = [*beside_the_base(FAST, 0.1, "run1"), *beside_the_base(SLOW, 0.15, "run2")]
    assert only(far).startswith("pytorch compiled is fastest")
    assert "told apart" not in only(far)


def test_an_unproven_case_is_not_ranked_however_fast():
    records = [
        dataclasses.replace(one, evidence=Evidence()) if one.case == SLOW else one
        for one in cohorts({BASE: 0.2, FAST: 0.15, SLOW: 0.01}, wobble=0.001)
    ]
    sentence = only(records)
    assert sentence.startswith("pytorch compiled is fastest: 1.33")
    assert sentence.endswith("; not ranked: jax compiled")


def test_a_disturbed_case_is_not_ranked():
    flags = {number: ["SWAP"] for number in range(8)}
    records = [record(one, c, flags=flags) for c in range(3) for one in (BASE, FAST)]
    assert only(records) == (
        "nothing is decided yet: the base, pytorch eager, was disturbed;"
        " not ranked: pytorch eager and pytorch compiled"
    )


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (cohorts({BASE: 0.2, FAST: 0.1}, num=2), "fewer than 3 launches"),
        (
            cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.4),
            "no difference is larger than the variation between 3 launches",
        ),
        (
            [
                dataclasses.replace(one, evidence=Evidence()) if one.case == FAST else one
                for one in cohorts({BASE: 0.2, FAST: 0.1})
            ],
            "no case is proven to do the same work as its base; not ranked: pytorch compiled",
        ),
        (
            [
                dataclasses.replace(
                    one, evidence=Evidence(parity=ParityVerdict(FAIL, reason="gradient"))
                )
                if one.case == BASE
                else one
                for one in cohorts({BASE: 0.2, FAST: 0.1})
            ],
            "the base, pytorch eager, does other work;"
            " not ranked: pytorch eager and pytorch compiled",
        ),
        (
            [
                dataclasses.replace(one, evidence=Evidence()) if one.case == BASE else one
                for one in cohorts({BASE: 0.2, FAST: 0.1})
            ],
            "the base, pytorch eager, is unproven; not ranked: pytorch eager and pytorch compiled",
        ),
        ([record(BASE, 0), record(FAST, 1)], "no round is valid for both a case and its base"),
    ],
)
def test_why_nothing_is_decided(records, why):
    assert only(records) == f"nothing is decided yet: {why}"


def test_launches_that_were_disturbed_are_not_counted():
    flags = {number: ["FOREIGN_LOAD"] for number in range(8)}
    records = [
        record(one.case, 2, [0.2] * 8, flags=flags) if one.cohort_id.endswith("2") else one
        for one in cohorts({BASE: 0.2, FAST: 0.1})
    ]
    assert only(records) == "nothing is decided yet: fewer than 3 launches left undisturbed"


def test_a_single_case_has_nothing_to_be_compared_with():
    assert only(cohorts({BASE: 0.2})) == (
        "nothing is compared: pytorch eager is the only case with a result"
    )


def test_a_base_against_itself_is_no_comparison():
    twins = [record(BASE, c, [0.2] * 8, replica=1) for c in range(3)]
    assert "is the only case with a result" in only([*cohorts({BASE: 0.2}), *twins])


def test_a_base_that_differs_from_itself_decides_nothing():
    twins = [record(BASE, c, [0.1] * 8, replica=1) for c in range(3)]
    sentence = only([*cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.001), *twins])
    assert sentence.startswith(
        "nothing is decided yet: the base, pytorch eager, differs from itself (A/A)"
    )


def test_a_failed_base_leaves_nothing_to_compare_with():
    records = [*cohorts({BASE: 0.2, FAST: 0.1, SLOW: 0.1}), failed(BASE, 9)]
    assert only(records) == (
        "nothing is compared: the base of pytorch compiled and jax compiled has no result"
    )


def test_a_group_without_a_result_says_so():
    assert only([]) == "nothing was measured"


def test_each_precision_has_a_sentence_and_the_table_has_the_rest():
    ways = [
        [case("pytorch", "eager", one), case("jax", "compiled", one)]
        for one in ("fp32", "bf16", "fp16")
    ]
    times = {one: step_s for own in ways for one, step_s in zip(own, (0.2, 0.1), strict=True)}
    fp32, bf16 = said(cohorts(times, wobble=0.001), cases=tuple(times))
    assert fp32.startswith("fp32: jax compiled is fastest: ")
    assert bf16.startswith("bf16: jax compiled is fastest: ")


def test_idiomatic_cases_come_first_and_tuned_ones_are_among_themselves():
    """As fast as tuned JAX is, idiomatic JAX is slower than its base."""
    times = dict(reversed(recipes.TIMES.items()))
    summary = recipes.summary_of(recipes.launches(times), list(recipes.TIMES))
    idiomatic, tuned = answers(summary.cells, summary)
    assert idiomatic.startswith("pytorch eager is fastest: the next, jax compiled, is 0.50")
    assert tuned.startswith("jax compiled tuned is fastest: 1.6")
    assert "times pytorch eager tuned" in tuned


def test_a_tuned_case_alone_is_told_by_its_gain():
    times = {one: recipes.TIMES[one] for one in (recipes.JAX, recipes.TUNED_JAX)}
    summary = recipes.summary_of(recipes.launches(times), list(times))
    alone, gain = answers(summary.cells, summary)
    assert alone.startswith("nothing is compared")
    assert gain.startswith("jax compiled tuned is ")
    assert "times jax compiled (95 % interval" in gain
