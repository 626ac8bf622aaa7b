"""A run on the terminal."""

import dataclasses
import io

import pytest
from rich.console import Console

from benchmarks.analysis.summary import summarise
from benchmarks.contract.evidence import FAIL, Evidence, ParityVerdict
from benchmarks.contract.plan import Cell
from benchmarks.presentation.sentence import sentence
from benchmarks.presentation.terminal import console_for, render_summary
from tests.unit.analysis.records import (
    PASSED,
    case,
    cohorts,
    effective,
    failed,
    plan,
    products,
    record,
    serial,
)
from workloads.resnet50.training_spec import SPECS

BASE, FAST, SLOW = case(), case("pytorch", "compiled"), case("jax", "compiled")
TIMES = {BASE: 0.2, FAST: 0.15, SLOW: 0.4}
MACHINE = {"cpu": "Test CPU", "num_cores": 2, "memory_bytes": 8 * 2**30, "accelerators": []}


def summary_of(records, *, cases=(BASE, FAST, SLOW), **changes):
    return summarise(plan(cases, machine=MACHINE, **changes), records, SPECS)


def rendered(summary, *, width=100, **options):
    stream = io.StringIO()
    console = Console(file=stream, width=width, **options)
    render_summary(summary, console, store="results/runs")
    return stream.getvalue()


def row(text, name):
    return next(line for line in text.splitlines() if name in line)


def test_a_measured_row_has_rate_ratio_verdict_memory_grade_and_launches():
    line = row(rendered(summary_of(cohorts(TIMES, wobble=0.004))), "pytorch compiled")
    assert "[52.7, 53.9]" in line
    assert "1.33 [1.31, 1.36] ▲ faster" in line
    assert line.split()[-5:] == ["2.0", "s", "1.00", "B", "3"]


def test_the_base_and_the_unit_are_named():
    text = rendered(summary_of(cohorts(TIMES)))
    assert "images/s" in text
    assert "base: pytorch eager fp32" in text
    assert "resnet50_train small b8 cpu" in text.splitlines()[0]


@pytest.mark.parametrize("width", [80, 100])
def test_lines_fit_and_names_and_intervals_are_whole(width):
    long = case("keras_tensorflow", "compiled", "bf16_pure")
    times = {BASE: 0.2, FAST: 0.1512, SLOW: 0.4, long: 0.00123}
    summary = summary_of(cohorts(times, wobble=0.0004), cases=tuple(times))
    text = rendered(summary, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    for whole in ("pytorch", "compiled", "keras_tensorflow", "bf16_pure"):
        assert whole in text.split()
    assert "…" not in text


def test_failed_and_skipped_cells_are_rows_with_their_reason_and_log():
    skip = Cell(case("mlx", "compiled"), "skip", "not_installed", "mlx is not installed")
    records = [*cohorts(TIMES), failed(SLOW, 5, reason="no memory left")]
    text = rendered(summary_of(records, skipped=[skip]))
    assert "oom_host" in row(text, "jax compiled fp32")
    assert "no memory left" in row(text, "jax compiled fp32")
    assert "log: results/runs/run1/logs/5.log" in text
    assert "not_installed" in row(text, "mlx compiled")


def test_a_cell_without_a_round_that_counts_says_so():
    records = [*cohorts({BASE: 0.2}), *(record(FAST, c, step_s=[]) for c in range(3))]
    text = rendered(summary_of(records, cases=(BASE, FAST)))
    assert "no valid round: none was measured" in row(text, "pytorch compiled fp32")


def test_notes_tell_parity_machine_noise_and_advice():
    records = cohorts(TIMES, wobble=0.03)
    records[0] = dataclasses.replace(
        records[0], blocks=record(BASE, 0, [0.2] * 8, flags={2: ["FOREIGN_LOAD"]}).blocks
    )
    text = " ".join(rendered(summary_of(records)).split())
    assert (
        "equal work: 3 cases pass: step 1 or the answers of each launch match the float64" in text
    )
    assert "losses within 2e-07" in text
    assert "machine: Test CPU, 2 cores, 8 GiB" in text
    assert "1 of 24 rounds dropped (FOREIGN_LOAD 1); other processes took at most 1 %" in text
    assert "2 more cohorts would halve the interval of" in text
    assert "protocol.num_cohorts=5" in text
    assert "more rounds would not narrow it" in text


def test_a_share_of_a_peak_stands_with_what_was_counted():
    text = " ".join(rendered(summary_of(cohorts(TIMES, wobble=0.0))).split())
    assert (
        "share of the roofline, the fastest matmul measured here: resnet50_train small b8 cpu:"
        " pytorch eager fp32 20 %, pytorch compiled fp32 27 %, jax compiled fp32 10 %;"
        " counted: convolutions" in text
    )


def test_a_share_of_a_peak_says_of_which_work():
    large = case("jax", "compiled", size="full")
    records = cohorts({BASE: 0.2, large: 0.2}, wobble=0.0)
    text = " ".join(rendered(summary_of(records, cases=[BASE, large])).split())
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
    text = " ".join(rendered(dataclasses.replace(summary, ratios=ratios)).split())
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
    text = " ".join(rendered(dataclasses.replace(summary, ratios=ratios)).split())
    assert "(protocol.num_cohorts=4)" in text  # 3 were measured


def test_advice_on_more_cohorts_counts_those_with_the_base_alone():
    with_another_base = [record(FAST, number) for number in (10, 11, 12)]
    records = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.03)
    text = rendered(summary_of([*records, *with_another_base], cases=[BASE, FAST]))
    assert "(protocol.num_cohorts=5)" in text  # 3 were shared, and 2 more are to come


def test_work_that_was_faster_than_every_product_is_told():
    records = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.0)
    records = [
        dataclasses.replace(r, evidence=dataclasses.replace(r.evidence, roof_flop_per_s=3.2e10))
        for r in records
    ]
    text = " ".join(rendered(summary_of(records, cases=[BASE, FAST])).split())
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
    text = " ".join(rendered(summary_of(records)).split())
    assert "different work: pytorch compiled fp32: gradient: off by 0.5" in text
    assert (
        "grade F, its work differs from the reference:"
        " resnet50_train small b8 cpu: pytorch compiled" in text
    )
    assert "! unproven" in text


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
    text = " ".join(rendered(summary_of(with_effective(cohorts(TIMES), layout="NCHW"))).split())
    assert "differences (fp32): layout = NHWC (pytorch eager, jax compiled) | NCHW (pytorch" in text
    alike = " ".join(rendered(summary_of(with_effective(cohorts(TIMES)))).split())
    assert "differences" not in alike


@pytest.mark.parametrize(
    ("seen", "computed_in", "shown"),
    [
        ("tf32", "float32", "pytorch eager fp32, like tf32"),
        ("fp32", "float32", "pytorch eager fp32 "),
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
    assert "pytorch eager int8 " in shown
    assert "like" not in shown


def test_a_row_tells_bf16_that_is_computed_in_fp32():
    half = case(precision="bf16")
    evidence = Evidence(parity=PASSED, precision=products("bf16"))
    settings = {"effective": {"products": "float32"}}
    records = [
        dataclasses.replace(r, evidence=evidence, settings=settings) for r in cohorts({half: 0.2})
    ]
    assert "pytorch eager bf16, in fp32" in rendered(summary_of(records, cases=[half]))


def test_an_aa_check_is_shown():
    records = cohorts({BASE: 0.2}) + [record(BASE, c, [0.2] * 8, replica=1) for c in range(3)]
    assert "A/A, pytorch eager fp32 against itself" in rendered(summary_of(records, cases=[BASE]))


def test_what_ran_one_after_another_is_told():
    records = [
        *serial({BASE: 0.2, FAST: 0.1}),
        *(dataclasses.replace(one, run_id="run2") for one in serial({BASE: 0.2})),
        *(dataclasses.replace(one, run_id="run3") for one in cohorts({BASE: 0.2, SLOW: 0.4})),
    ]
    text = " ".join(rendered(summary_of(records)).split())
    assert (
        "one after another, not interleaved: resnet50_train small b8 cpu: pytorch eager fp32 (A/A),"
        " pytorch compiled fp32: the four launches of a cohort give one value of the ratio and of"
        " each rate (n counts cohorts); a steady drift of the machine almost cancels, any other"
        " widens the interval; the grade is C at best"
    ) in text
    assert "one after another" not in rendered(summary_of(cohorts(TIMES)))


def test_an_aa_check_that_is_too_wide_to_tell_says_so():
    steps = (0.2, 0.2 * 1.2, 0.2 / 1.2)
    records = cohorts({BASE: 0.2}, wobble=0.0)
    twins = [record(BASE, c, [step] * 8, replica=1) for c, step in enumerate(steps)]
    text = " ".join(rendered(summary_of(records + twins, cases=[BASE])).split())
    assert "contains 1, but is wider than a tie" in text


def test_disturbed_rounds_without_others_are_shown_as_such():
    most = {r: ["SWAP"] for r in range(6)}
    text = " ".join(rendered(summary_of([record(BASE, 0, flags=most)], cases=[BASE])).split())
    assert (
        "0 of 8 rounds dropped, 6 disturbed ones kept, since there are too few others (SWAP 6)"
        in text
    )


def test_markup_and_escapes_in_records_stay_text():
    records = [*cohorts(TIMES), failed(SLOW, 5, reason="\x1b]8;;x\x07[/bold][link=x]oops")]
    text = rendered(summary_of(records), force_terminal=True)
    assert "[/bold][link=x]oops" in text
    assert "\x1b]8" not in text
    assert "\x07" not in text


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    summary = summary_of(cohorts(TIMES))
    options = {"force_terminal": True, "color_system": "standard"}
    assert "\x1b[32m" in rendered(summary, **options)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in rendered(summary, **options)


def test_a_stream_that_is_no_terminal_gets_plain_text():
    stream = io.StringIO()
    console = console_for(stream)
    render_summary(summary_of(cohorts(TIMES)), console)
    assert console.width == 110
    assert "\x1b" not in stream.getvalue()


def test_a_stream_without_unicode_gets_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    records = [*cohorts(TIMES), failed(SLOW, 5, reason="zażółć")]
    render_summary(summary_of(records), console_for(stream))
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "^ faster" in text
    assert "za\\u017c" in text


def test_a_run_without_results_is_shown_too():
    text = rendered(summary_of([]))
    assert "interrupted" in text
    assert text.splitlines()[-1] == "nothing is ranked: no case was measured"


def test_sentence_leads_with_the_fastest():
    assert sentence(summary_of(cohorts(TIMES, wobble=0.004))) == (
        "pytorch compiled is 1.33x [1.31, 1.36] as fast as pytorch eager"
        " on resnet50_train small b8 fp32 (3 launches)"
    )


def test_sentence_of_serial_launches_counts_cohorts():
    found = sentence(summary_of(serial({BASE: 0.2, FAST: 0.1})))
    assert found.endswith("(3 cohorts)")


def test_sentence_of_a_slower_case_and_of_a_tie():
    slower = sentence(summary_of(cohorts({BASE: 0.2, SLOW: 0.4}, wobble=0.001)))
    assert slower.startswith("jax compiled is 0.50")
    tie = sentence(summary_of(cohorts({BASE: 0.2, SLOW: 0.2}, wobble=0.001)))
    assert tie.startswith(
        "jax compiled is as fast as pytorch eager on resnet50_train small b8 fp32"
    )


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([], "no case was measured"),
        (cohorts({BASE: 0.2}), "no two cases with equal work"),
        (cohorts(TIMES, num=2), "fewer than 3 launches (protocol=quick)"),
        (cohorts(TIMES, wobble=0.4), "no difference is larger than the variation"),
        (
            [dataclasses.replace(r, evidence=Evidence()) for r in cohorts(TIMES)],
            "no case is proven to do the same work as its base",
        ),
        (
            [record(BASE, 0), record(FAST, 1)],
            "no round is valid for both a case and its base",
        ),
    ],
)
def test_sentence_says_why_nothing_is_ranked(records, why):
    assert sentence(summary_of(records)).startswith(f"nothing is ranked: {why}")


def test_sentence_says_that_launches_were_disturbed():
    flags = {number: ["FOREIGN_LOAD"] for number in range(8)}
    records = [
        record(one.case, 2, [TIMES[one.case]] * 8, flags=flags)
        if one.cohort_id.endswith("2")
        else one
        for one in cohorts(TIMES)
    ]
    said = "nothing is ranked: fewer than 3 launches left undisturbed (protocol=quick)"
    assert sentence(summary_of(records)) == said
