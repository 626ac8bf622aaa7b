"""A run summed up: cells, ratios, verdicts, and the document."""

import dataclasses
import json
import math

import numpy as np
import pytest

from benchmarks.analysis.summary import summarise
from benchmarks.contract.evidence import INHERITED, Evidence, ParityVerdict
from benchmarks.contract.plan import Cell, Interpreter
from benchmarks.documents.encoding import to_json
from benchmarks.documents.run import document
from tests.unit.analysis.records import (
    STEP1,
    case,
    cohorts,
    effective,
    failed,
    key_of,
    plan,
    products,
    record,
)
from workloads.resnet50.training_spec import SPECS

BASE = case()
FAST = case("pytorch", "compiled")
SLOW = case("jax", "compiled")
CASES = [BASE, FAST, SLOW]
TIMES = {BASE: 0.2, FAST: 0.1, SLOW: 0.4}


def summary_of(records, *, cases=CASES, **changes):
    return summarise(plan(cases, **changes), records, SPECS)


def document_of(summary):
    return to_json(document(summary))


def cell(summary, one):
    return next(c for c in document_of(summary)["cells"] if c["case_id"] == one.case_id)


def ratio(summary, one, *, aa=False):
    rows = document_of(summary)["ratios"]
    return next(r for r in rows if r["case"] == one.case_id and r["aa"] is aa)


def test_ratios_are_the_bases_time_over_the_cases_and_have_verdicts():
    summary = summary_of(cohorts(TIMES))
    fast, slow = ratio(summary, FAST), ratio(summary, SLOW)
    assert fast["ratio"] == pytest.approx(2.0, rel=0.03)
    assert fast["low"] < fast["ratio"] < fast["high"]
    assert (fast["verdict"], slow["verdict"]) == ("faster", "slower")
    assert (fast["base"], fast["num_launches"]) == (BASE.case_id, 3)
    assert {r["case"] for r in document_of(summary)["ratios"]} == {FAST.case_id, SLOW.case_id}


def test_throughput_is_items_over_the_launches_geometric_mean():
    records = [record(BASE, c, [0.1 * f] * 4) for c, f in enumerate((1.0, 2.0, 4.0))]
    found = cell(summary_of(records), BASE)
    assert found["step_s"] == pytest.approx(0.2)
    assert found["items_per_s"] == pytest.approx(8 / 0.2)
    assert found["items_per_s_low"] < 40 < found["items_per_s_high"]
    assert found["items_per_s_low"] * found["items_per_s_high"] == pytest.approx(1600)
    assert found["num_launches"] == 3


def test_only_cohorts_that_both_took_part_in_count_for_a_ratio():
    records = cohorts({BASE: 0.2, FAST: 0.1}, num=4)
    lonely = [record(FAST, 7, [9.0] * 8), record(BASE, 8, [9.0] * 8)]
    summary = summary_of(records + lonely)
    assert ratio(summary, FAST)["num_launches"] == 4
    assert ratio(summary, FAST)["ratio"] == pytest.approx(2.0, rel=0.03)
    assert cell(summary, FAST)["num_launches"] == 5


def test_rounds_are_paired_by_their_number():
    drift = np.linspace(1.0, 3.0, 8)
    records = []
    for c in range(3):
        records.append(record(BASE, c, 0.2 * drift))
        records.append(record(FAST, c, (0.1 * drift)[:5]))
    found = ratio(summary_of(records), FAST)
    assert found["ratio"] == pytest.approx(2.0, rel=1e-6)


def test_a_round_with_a_declared_cause_in_any_launch_is_dropped_for_all_of_the_cohort():
    spoiled = [0.1] * 7 + [50.0]
    records = []
    for c in range(3):
        records.append(record(BASE, c, [0.2] * 8))
        records.append(record(FAST, c, [0.1, *spoiled[1:]]))
        records.append(record(SLOW, c, [0.4] * 8, flags={7: ["FOREIGN_LOAD"]}))
    summary = summary_of(records)
    found = cell(summary, FAST)
    assert ratio(summary, FAST)["ratio"] == pytest.approx(2.0, rel=1e-6)
    assert (found["num_rounds"], found["num_rounds_invalid"]) == (24, 3)
    assert found["flags"] == []
    assert cell(summary, SLOW)["flags"] == ["FOREIGN_LOAD"]
    assert (summary.rounds.num_rounds, summary.rounds.num_dropped) == (24, 3)
    assert summary.rounds.causes == {"FOREIGN_LOAD": 3}


def test_disturbed_rounds_that_are_kept_are_counted_apart_from_the_dropped():
    most = {r: ["SWAP"] for r in range(6)}
    records = [
        record(BASE, 0, flags=most),
        record(BASE, 1),
        record(case(size="tiny"), 2, flags=most),
    ]
    cases = [BASE, case(size="tiny")]
    rounds = summarise(plan(cases), records, {}).rounds
    assert (rounds.num_rounds, rounds.num_dropped, rounds.num_kept) == (24, 8, 6)


@pytest.mark.parametrize(
    ("num_disturbed", "grade", "verdict"), [(5, "B", "faster"), (6, "F", "cant_tell")]
)
def test_disturbed_rounds_withdraw_the_verdict_only_if_too_few_others_are_left(
    num_disturbed, grade, verdict
):
    flags = {r: ["FOREIGN_LOAD"] for r in range(num_disturbed)}
    records = [
        dataclasses.replace(r, blocks=record(r.case, 0, [0.1] * 8, flags=flags).blocks)
        if r.case == FAST
        else r
        for r in cohorts(TIMES)
    ]
    summary = summary_of(records)
    assert cell(summary, FAST)["grade"] == grade
    assert ratio(summary, FAST)["verdict"] == verdict


def test_a_case_disturbed_throughout_keeps_its_numbers_and_is_not_ranked():
    every = {r: ["SUSPENDED"] for r in range(8)}
    records = [record(BASE, c) for c in range(3)]
    records += [record(FAST, c, flags=every) for c in range(3)]
    summary = summary_of(records)
    found = ratio(summary, FAST)
    assert (found["num_launches"], found["verdict"]) == (3, "cant_tell")
    assert found["low"] is not None
    assert cell(summary, FAST)["items_per_s"] is not None
    assert cell(summary, FAST)["grade"] == "F"
    assert cell(summary, FAST)["flags"] == ["SUSPENDED"]


def test_without_a_shared_round_there_is_no_ratio_and_no_verdict():
    records = [record(BASE, c) for c in range(3)] + [record(FAST, c, []) for c in range(3)]
    summary = summary_of(records)
    found = ratio(summary, FAST)
    assert (found["ratio"], found["num_launches"], found["verdict"]) == (None, 0, "cant_tell")
    assert cell(summary, FAST)["items_per_s"] is None
    assert cell(summary, FAST)["reason"] == "no valid round: none was measured"


def test_one_launch_ranks_nothing():
    summary = summary_of(cohorts(TIMES, num=1))
    found = ratio(summary, FAST)
    assert found["ratio"] == pytest.approx(2.0, rel=0.03)
    assert (found["low"], found["high"], found["verdict"]) == (None, None, "cant_tell")
    assert cell(summary, FAST)["grade"] == "F"
    assert cell(summary, FAST)["items_per_s_low"] is None


def test_a_failed_case_keeps_its_numbers_and_is_not_compared():
    summary = summary_of([*cohorts(TIMES), failed(SLOW, 5, "timeout", reason="no answer")])
    found = cell(summary, SLOW)
    assert (found["status"], found["reason"], found["grade"]) == ("timeout", "no answer", "F")
    assert found["items_per_s"] == pytest.approx(20, rel=0.03)
    assert [r["case"] for r in document_of(summary)["ratios"]] == [FAST.case_id]
    assert summary.has_failures


def test_a_failed_base_leaves_no_ratio():
    summary = summary_of([*cohorts(TIMES), failed(BASE, 5)])
    assert document_of(summary)["ratios"] == []


def test_a_skip_is_a_cell_with_its_reason_and_no_failure():
    missing = case("mlx", "compiled")
    skip = Cell(missing, "skip", "not_installed", "mlx is not installed")
    summary = summary_of(cohorts(TIMES), skipped=[skip])
    found = cell(summary, missing)
    assert (found["status"], found["reason"]) == ("not_installed", "mlx is not installed")
    assert (found["items_per_s"], found["grade"], found["parity"]) == (None, None, "unproven")
    assert not summary.has_failures


def test_a_case_that_was_never_launched_has_not_failed():
    summary = summary_of(cohorts({BASE: 0.2}))
    assert cell(summary, FAST)["status"] == "interrupted"
    assert not summary.has_failures


def test_second_launches_of_the_base_make_an_aa_ratio_and_no_throughput():
    records = cohorts(TIMES)
    records += [record(BASE, c, [0.2] * 8, replica=1) for c in range(3)]
    records[-1] = dataclasses.replace(records[-1], peak_memory_bytes=2**40)
    summary = summary_of(records)
    aa = ratio(summary, BASE, aa=True)
    assert (aa["base"], aa["num_launches"]) == (BASE.case_id, 3)
    assert aa["low"] <= 1 <= aa["high"]
    assert cell(summary, BASE)["num_launches"] == 3
    assert cell(summary, BASE)["peak_memory_bytes"] == 2**30
    assert ratio(summary, FAST)["verdict"] == "faster"


def test_an_aa_ratio_without_one_withdraws_every_verdict_on_that_base():
    records = cohorts(TIMES, wobble=0.001)
    records += [record(BASE, c, [0.25] * 8, replica=1) for c in range(3)]
    summary = summary_of(records)
    assert ratio(summary, BASE, aa=True)["verdict"] == "slower"
    assert ratio(summary, FAST)["verdict"] == "cant_tell"
    assert cell(summary, FAST)["grade"] == "F"


def test_a_case_that_is_off_the_oracle_is_shown_and_ranks_nothing():
    records = [r for r in cohorts(TIMES) if r.case != FAST]
    reason = "gradient: off by 0.5, at most 0.01"
    records += [failed(FAST, c, "invalid_work", reason=reason) for c in range(3)]
    summary = summary_of(records)
    assert cell(summary, FAST)["parity"] == "fail"
    assert cell(summary, FAST)["parity_reason"] == cell(summary, FAST)["reason"] == reason
    assert [one.case for one in summary.ratios] == [SLOW.case_id]
    assert cell(summary, BASE)["parity"] == cell(summary, SLOW)["parity"] == "pass"
    assert summary.has_failures


def test_work_that_nothing_was_shown_of_is_unproven_and_ranks_nothing():
    records = [dataclasses.replace(r, evidence=Evidence()) for r in cohorts(TIMES)]
    summary = summary_of(records)
    assert {c["parity"] for c in document_of(summary)["cells"]} == {"unproven"}
    assert ratio(summary, FAST)["verdict"] == "unproven"


def test_one_launch_without_a_proof_leaves_its_cell_unproven():
    records = cohorts(TIMES)
    odd = next(i for i, r in enumerate(records) if r.case == FAST and r.cohort_id == "cohort2")
    records[odd] = dataclasses.replace(records[odd], evidence=Evidence())
    summary = summary_of(records)
    assert cell(summary, FAST)["parity"] == "unproven"
    assert ratio(summary, FAST)["verdict"] == "unproven"
    assert ratio(summary, SLOW)["verdict"] == "slower"


def test_a_base_alone_is_proven_by_the_oracle():
    summary = summary_of(cohorts({BASE: 0.2}), cases=[BASE])
    assert cell(summary, BASE)["parity"] == "pass"
    assert not summary.has_failures


def inherited(records, **step1):
    """The records with a proof from other sizes; `step1` is what FAST's first step is then."""
    proof = ParityVerdict(INHERITED, reason="proven at small b8")
    return [
        dataclasses.replace(
            r,
            evidence=dataclasses.replace(
                r.evidence,
                parity=proof,
                step1=dataclasses.replace(STEP1, **(step1 if r.case == FAST else {})),
            ),
        )
        for r in records
    ]


def test_inherited_proofs_rank_where_the_first_steps_agree():
    summary = summary_of(inherited(cohorts(TIMES)))
    assert cell(summary, FAST)["parity"] == "inherited"
    assert "proven at small b8" in cell(summary, FAST)["parity_reason"]
    assert ratio(summary, FAST)["verdict"] == "faster"


@pytest.mark.parametrize("number", [{"loss": 7.1}, {"gradient_norm": 4.0}])
def test_inherited_proofs_rank_nothing_where_the_first_steps_differ(number):
    summary = summary_of(inherited(cohorts(TIMES), **number))
    assert cell(summary, FAST)["parity"] == "fail"
    assert cell(summary, FAST)["grade"] == "F"
    assert ratio(summary, FAST)["verdict"] == "unproven"
    assert cell(summary, BASE)["parity"] == cell(summary, SLOW)["parity"] == "inherited"
    assert ratio(summary, SLOW)["verdict"] == "slower"
    assert summary.has_failures


def test_what_a_launch_really_worked_with_is_told():
    evidence = dataclasses.replace(
        cohorts({BASE: 0.2})[0].evidence,
        effective=effective(activations="bfloat16", layout="NHWC", flop_per_step=5),
        precision=products("bf16"),
    )
    settings = {"asked": {"num_threads": 2}, "effective": {"products": "float32"}}
    records = [
        dataclasses.replace(r, evidence=evidence, settings=settings) for r in cohorts({BASE: 0.2})
    ]
    summary = summary_of(records, cases=[BASE])
    assert cell(summary, BASE)["effective"] == {
        "parameters": "float32",
        "activations": "bfloat16",
        "layout": "NHWC",
        "products": "bf16",
        "computed in": "float32",
        "threads": "2",
    }


def test_precisions_are_compared_with_their_own_base_only():
    half_base, half = case(precision="bf16"), case("jax", "compiled", "bf16")
    times = {BASE: 0.4, FAST: 0.2, half_base: 0.2, half: 0.1}
    summary = summary_of(cohorts(times), cases=list(times))
    assert ratio(summary, half)["base"] == half_base.case_id
    assert ratio(summary, half)["ratio"] == pytest.approx(2.0, rel=0.03)


def test_grades_follow_the_ratio_and_not_the_drifting_rate():
    drift = {0: 1.0, 1: 1.3, 2: 1.6, 3: 0.8, 4: 1.2}
    records = []
    for c, factor in drift.items():
        records.append(record(BASE, c, [0.2 * factor * (1 + 0.001 * c)] * 8))
        records.append(record(FAST, c, [0.1 * factor] * 8))
    summary = summary_of(records, cases=[BASE, FAST])
    assert cell(summary, FAST)["grade"] == "A"
    assert ratio(summary, FAST)["verdict"] == "faster"


def test_a_case_that_others_are_compared_with_has_no_grade_of_its_own():
    assert cell(summary_of(cohorts(TIMES)), BASE)["grade"] is None
    assert cell(summary_of(cohorts({BASE: 0.1}), cases=[BASE]), BASE)["grade"] == "B"


def test_launches_that_were_not_steady():
    records = cohorts(TIMES)
    for i, r in enumerate(records):
        unsteady = (r.case == FAST and r.cohort_id != "cohort0") or (
            r.case == SLOW and r.cohort_id == "cohort0"
        )
        records[i] = dataclasses.replace(r, steady=not unsteady)
    summary = summary_of(records)
    assert cell(summary, FAST)["steady"] is False
    assert cell(summary, FAST)["grade"] == "F"
    assert ratio(summary, FAST)["verdict"] == "cant_tell"
    assert cell(summary, SLOW)["steady"] is True
    assert cell(summary, SLOW)["flags"] == ["NO_STEADY_STATE"]
    assert cell(summary, SLOW)["grade"] == "C"


def test_a_slowdown_in_most_launches_caps_the_grade():
    throttled = [0.2] * 10 + [0.3] * 20
    records = [record(BASE, c, throttled) for c in range(3)]
    records += [record(FAST, c, [t / 2 for t in throttled]) for c in range(3)]
    found = cell(summary_of(records, cases=[BASE, FAST]), FAST)
    assert found["flags"] == ["SLOWDOWN"]
    assert found["grade"] == "C"


def test_the_cold_first_step_is_apart():
    records = [
        dataclasses.replace(
            record(BASE, c), first_steps_ns=(ns, 1, 1), cold_cache=None if c == 3 else c == 0
        )
        for c, ns in enumerate((30_000_000_000, 2_000_000_000, 4_000_000_000, 3_000_000_000))
    ]
    found = cell(summary_of(records, cases=[BASE]), BASE)
    assert (found["first_step_s"], found["first_step_cold_s"]) == (3.0, 30.0)


def test_peak_memory_is_the_largest():
    records = cohorts({BASE: 0.2})
    records[1] = dataclasses.replace(records[1], peak_memory_bytes=3 * 2**30)
    records[2] = dataclasses.replace(records[2], peak_memory_bytes=None)
    assert cell(summary_of(records, cases=[BASE]), BASE)["peak_memory_bytes"] == 3 * 2**30


def test_many_comparisons_with_one_base_are_adjusted_together():
    others = [case(f"framework{i}", "compiled") for i in range(12)]
    alone = summary_of(_close(others[:1]), cases=[BASE, others[0]])
    together = summary_of(_close(others), cases=[BASE, *others])
    assert ratio(alone, others[0])["verdict"] == "faster"
    assert ratio(together, others[0])["verdict"] == "cant_tell"


def test_advice_tells_cohorts_from_rounds():
    comparison = summary_of(cohorts(TIMES, wobble=0.03)).ratios[0]
    assert comparison.effort.more_cohorts == 2
    assert comparison.effort.num_rounds == 8
    assert comparison.effort.best_rounds == 1


def test_the_last_attempt_at_a_cohort_is_paired_with_itself():
    records = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.0)
    lonely = record(
        BASE, 0, [0.9] * 8, launch_id="first-attempt", started_at="2026-11-01T00:00:00.0Z"
    )
    records[0] = dataclasses.replace(records[0], started_at="2026-11-01T00:00:30Z")
    assert ratio(summary_of([lonely, *records], cases=[BASE, FAST]), FAST)[
        "ratio"
    ] == pytest.approx(2.0)


def test_the_document_is_plain_json_without_nan():
    skip = Cell(case("mlx"), "skip", "unsupported", "no")
    records = [*cohorts(TIMES), failed(SLOW, 5)]
    records[0] = dataclasses.replace(records[0], peak_memory_bytes=None, first_steps_ns=())
    found = document_of(summary_of(records, skipped=[skip]))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    _assert_plain(found)
    assert list(found) == [
        "schema",
        "run_id",
        "created_at",
        "protocol",
        "machine",
        "versions",
        "cells",
        "ratios",
        "costs",
        "gains",
        "leads",
    ]
    assert found["schema"] == "dyno.run/1"
    assert [c["status"] for c in found["cells"]] == ["ok", "ok", "oom_host", "unsupported"]


def test_undisturbed_and_experienced_speeds_are_kept_apart():
    """Half of the case's turns take twice as long: only its mean becomes slower."""
    records = [
        *cohorts({BASE: 0.2}, wobble=0.0),
        *(record(FAST, c, [0.1, 0.2] * 4) for c in range(3)),
    ]
    summary = summary_of(records, cases=[BASE, FAST])
    fast = cell(summary, FAST)
    assert fast["items_per_s"] == pytest.approx(80)
    assert fast["mean_items_per_s"] == pytest.approx(8 / 0.15)
    assert fast["mean_items_per_s_low"] < 8 / 0.15 < fast["mean_items_per_s_high"]
    found = ratio(summary, FAST)
    assert found["ratio"] == pytest.approx(2.0)
    assert found["experienced"] == pytest.approx(math.sqrt(2))
    assert found["experienced_low"] < found["experienced"] < found["experienced_high"]


def test_the_document_tells_what_an_interval_is_worth_and_when_it_was_looked_at():
    records = [
        dataclasses.replace(one, look=2) if one.cohort_id == "cohort3" else one
        for one in cohorts({BASE: 0.2, FAST: 0.1}, num=4)
    ]
    found = ratio(summary_of(records, cases=[BASE, FAST]), FAST)
    assert (found["degrees_of_freedom"], found["look"]) == (3, 2)


def test_the_document_has_the_time_the_versions_and_the_uses():
    interpreters = {
        name: Interpreter("/p", {"python": "3.12", name: "1.0"}, {}) for name in ("pytorch", "mlx")
    }
    records = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.001)
    found = document_of(summary_of(records, cases=[BASE, FAST, SLOW], interpreters=interpreters))
    assert found["created_at"] == "2026-11-01T00:00:00Z"
    assert found["versions"] == {"pytorch": {"python": "3.12", "pytorch": "1.0"}}
    assert [one["use"] for one in found["cells"]] == ["base", "ranked", None]


def test_cases_that_may_be_as_fast_are_compared_with_the_fastest_too():
    records = cohorts({BASE: 0.2, FAST: 0.1, SLOW: 0.101}, wobble=0.001)
    [lead] = document_of(summary_of(records))["leads"]
    assert (lead["base"], lead["case"]) == (FAST.case_id, SLOW.case_id)
    assert lead["ratio"] == pytest.approx(0.99, rel=0.01)
    assert document_of(summary_of(cohorts(TIMES, wobble=0.001)))["leads"] == []


@pytest.mark.parametrize("kind", ["unsupported", "not_installed", "no_device", "does_not_fit"])
def test_what_a_plan_leaves_out_is_no_failure(kind):
    summary = summary_of(cohorts(TIMES), skipped=[Cell(case("mlx"), "skip", kind, "no")])
    assert not summary.has_failures
    assert cell(summary, case("mlx"))["status"] == kind


def test_every_cell_has_the_same_keys():
    skip = Cell(case("mlx"), "skip", "unsupported", "no")
    cells = document_of(summary_of(cohorts(TIMES), skipped=[skip]))["cells"]
    assert {
        "case_id workload size batch_size framework execution precision device num_devices base"
        " status reason unit items_per_s items_per_s_low items_per_s_high"
        " mean_items_per_s mean_items_per_s_low mean_items_per_s_high num_launches num_rounds"
        " num_rounds_invalid step_s first_step_s first_step_cold_s export_s first_answer_s"
        " first_answer_cold_s peak_memory_bytes steady flags"
        " mfu_roof mfu_spec flop_convention grade use parity parity_reason rewrites has_own_clock"
        " effective"
        " latency_p50_ms latency_p50_low_ms latency_p50_high_ms latency_p90_ms latency_p90_low_ms"
        " latency_p90_high_ms latency_p99_ms latency_p99_is_bound latency_num_samples"
        " latency_reasons"
    } == {" ".join(c) for c in cells}


def test_a_plan_without_records_has_cells_and_no_ratios():
    found = document_of(summary_of([]))
    assert {c["status"] for c in found["cells"]} == {"interrupted"}
    assert found["ratios"] == []


def _close(others):
    """Cohorts in which each other case is 3.5 to 6 % faster than the base."""
    return [
        record(one, c, [step_s] * 8)
        for c, factor in enumerate((1.035, 1.06, 1.04, 1.06))
        for one, step_s in [(BASE, 0.2), *((other, 0.2 / factor) for other in others)]
    ]


def _assert_plain(value):
    assert type(value) in (dict, list, str, int, float, bool, type(None))
    if isinstance(value, float):
        assert math.isfinite(value)
    for item in value.values() if isinstance(value, dict) else value if type(value) is list else ():
        _assert_plain(item)


def test_keys_of_the_builder_match_the_plan():
    assert plan(CASES).cells[0].result_key == key_of(BASE) == record(BASE, 0).result_key
