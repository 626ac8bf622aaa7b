"""Ratios of cohorts whose launches ran one after another."""

import dataclasses
import math

import pytest

from benchmarks.analysis.pairing import pairs, serial_values
from benchmarks.analysis.summary import summarise
from benchmarks.analysis.tables import block_frame
from benchmarks.documents.encoding import to_json
from benchmarks.documents.run import document
from tests.unit.analysis.records import blocks, case, cohorts, failed, plan, record, serial
from workloads.resnet50.training_spec import SPECS

BASE, CASE = case(), case("jax", "compiled")
TIMES = {BASE: 0.2, CASE: 0.1}
SPIKE = [0.1] * 7 + [50.0]


def summary_of(records, *, cases=(BASE, CASE)):
    return summarise(plan(cases), records, SPECS)


def only_ratio(records, **options):
    [found] = to_json(document(summary_of(records, **options)))["ratios"]
    return found


def cell(summary, one):
    return next(c for c in to_json(document(summary))["cells"] if c["case_id"] == one.case_id)


def log_ratios(records):
    """The log-ratio of each serial cohort, undisturbed; as experienced it is the same here."""
    found = serial_values(block_frame(records), _pairs(records))
    undisturbed = [one.undisturbed.log_ratio for one in found]
    assert [one.experienced for one in found] == pytest.approx(undisturbed)
    return undisturbed


def of(records, cohort, place):
    """The index of the launch at a place of a serial cohort."""
    return 4 * cohort + place


def with_blocks(records, index, step_s, flags=None):
    """The records, one of them with other blocks."""
    changed = list(records)
    changed[index] = dataclasses.replace(records[index], blocks=blocks(step_s, flags=flags))
    return changed


# Drift


@pytest.mark.parametrize("order", ["ABBA", "BAAB"])
@pytest.mark.parametrize("drift", [-0.1, 0.0, 0.1])
def test_a_linear_drift_cancels_within_the_cohort(order, drift):
    records = serial(TIMES, drift=drift, orders=(order,))
    found = log_ratios(records)
    assert found == pytest.approx([math.log(2)] * 3, abs=1e-7)


def test_in_another_order_it_would_not():
    records = serial(TIMES, drift=0.1, orders=("ABAB",))
    found = log_ratios(records)
    assert found == pytest.approx([math.log(2) - 0.1] * 3, abs=1e-7)


def test_a_real_factor_is_found_under_a_drift_that_is_larger():
    found = only_ratio(serial({BASE: 0.2, CASE: 0.18}, drift=0.1))
    assert found["ratio"] == pytest.approx(0.2 / 0.18, rel=1e-6)
    assert (found["verdict"], found["num_launches"]) == ("faster", 3)
    assert found["resident"] == "serial"


def test_equals_under_a_drift_are_the_same():
    assert only_ratio(serial({BASE: 0.2, CASE: 0.2}, drift=0.1))["verdict"] == "same"


def test_what_does_not_cancel_is_in_the_interval():
    records = serial(TIMES, num=4)
    for c, factor in enumerate((1.0, 1.3, 0.8, 1.1)):  # of one launch of the base in each
        place = next(i for i in range(4) if records[of(records, c, i)].case == BASE)
        records = with_blocks(records, of(records, c, place), [0.2 * factor] * 8)
    found = only_ratio(records)
    logs = [math.log(2) + math.log(factor) / 2 for factor in (1.0, 1.3, 0.8, 1.1)]
    assert found["ratio"] == pytest.approx(math.exp(sum(logs) / 4))
    assert found["high"] / found["low"] > 1.3


# Rates, grades, rounds


def test_the_rate_has_one_value_of_each_cohort():
    summary = summary_of(serial(TIMES))
    assert cell(summary, CASE)["num_launches"] == cell(summary, BASE)["num_launches"] == 3
    assert cell(summary, CASE)["step_s"] == pytest.approx(0.1)


def test_a_serial_ratio_is_graded_c_at_best():
    summary = summary_of(serial(TIMES, num=10))
    assert cell(summary, CASE)["grade"] == "C"
    assert cell(summary_of(cohorts(TIMES, num=10, wobble=0.001)), CASE)["grade"] == "A"


def test_each_launch_has_rounds_of_its_own():
    rounds = summary_of(serial(TIMES)).rounds
    assert (rounds.num_rounds, rounds.num_dropped) == (3 * 4 * 8, 0)


def test_a_disturbed_round_is_dropped_for_its_launch_alone():
    records = serial(TIMES, orders=("ABBA",))
    records = with_blocks(records, of(records, 0, 1), SPIKE, {7: ["FOREIGN_LOAD"]})
    table = block_frame(records)
    assert table[table["round_dropped"]]["launch_id"].tolist() == ["c0-1"]
    summary = summary_of(records)
    assert summary.ratios[0].ratio.ratio == pytest.approx(2.0)
    assert cell(summary, CASE)["num_rounds_invalid"] == 1
    assert cell(summary, BASE)["num_rounds_invalid"] == 0


def test_one_launch_that_was_disturbed_most_of_the_time_leaves_out_its_cohort():
    records = serial(TIMES, num=4, orders=("ABBA",))
    most = {r: ["SWAP"] for r in range(6)}
    records = with_blocks(records, of(records, 0, 1), [9.0] * 8, most)
    found = only_ratio(records)
    assert found["num_launches"] == 3
    assert found["ratio"] == pytest.approx(2.0)
    assert block_frame(records)["round_dropped"].sum() == 32


def test_where_every_cohort_was_disturbed_all_is_kept_and_nothing_ranked():
    every = {r: ["SWAP"] for r in range(8)}
    records = serial(TIMES, orders=("ABBA",))
    for c in range(3):
        records = with_blocks(records, of(records, c, 2), [0.1] * 8, every)
    found = only_ratio(records)
    assert (found["num_launches"], found["verdict"]) == (3, "cant_tell")


# Launches that are not there


@pytest.mark.parametrize("place", range(4))
def test_a_cohort_without_one_of_its_launches_gives_no_value(place):
    records = serial(TIMES, num=4, drift=0.5, orders=("ABBA",))
    del records[of(records, 1, place)]
    found = only_ratio(records)
    assert found["num_launches"] == 3
    assert found["ratio"] == pytest.approx(2.0)


def test_an_interrupted_launch_leaves_its_cohort_out():
    records = serial(TIMES, num=1)
    records[3] = dataclasses.replace(records[3], status="interrupted")
    found = only_ratio(records)
    assert (found["ratio"], found["verdict"], found["resident"]) == (None, "cant_tell", None)


def test_a_launch_without_rounds_leaves_its_cohort_out():
    records = serial(TIMES, num=4)
    assert only_ratio(with_blocks(records, 0, []))["num_launches"] == 3


def test_a_failed_launch_is_its_cells_failure_and_the_others_keep_their_numbers():
    records = serial(TIMES, num=1, orders=("ABBA",))
    ended = failed(CASE, 0, launch_id="c0-1", resident="serial", started_at=records[1].started_at)
    summary = summary_of([records[0], ended, records[3]])
    assert cell(summary, CASE)["status"] == "oom_host"
    assert cell(summary, BASE)["num_launches"] == 1
    assert cell(summary, BASE)["num_rounds"] == 16
    assert summary.ratios == ()


def test_of_repeated_attempts_at_a_cohort_the_last_counts():
    records = serial(TIMES, num=1, orders=("ABBA",))
    early = [
        record(
            one, 0, [9.0] * 8, launch_id=f"early-{i}", resident="serial", started_at="2026-10-01"
        )
        for i, one in enumerate((BASE, CASE))
    ]
    assert only_ratio([*early, *records])["ratio"] == pytest.approx(2.0)


# Together with others


def test_cohorts_of_either_kind_count_and_the_ratio_is_called_serial():
    together = [
        dataclasses.replace(one, run_id="run0") for one in cohorts(TIMES, num=2, wobble=0.0)
    ]
    found = only_ratio([*together, *serial(TIMES, drift=0.1)])
    assert (found["num_launches"], found["resident"]) == (5, "serial")
    assert found["ratio"] == pytest.approx(2.0, rel=1e-6)


def test_launches_that_were_alive_together_are_told():
    assert only_ratio(cohorts(TIMES))["resident"] == "together"


def test_a_base_is_compared_with_itself_as_others_are():
    records = serial({BASE: 0.2}, drift=0.1)
    found = only_ratio(records, cases=[BASE])
    assert found["aa"]
    assert found["ratio"] == pytest.approx(1.0, abs=1e-6)
    assert cell(summary_of(records, cases=[BASE]), BASE)["num_launches"] == 3


def test_advice_is_on_cohorts_and_not_on_rounds():
    records = serial(TIMES, num=4)
    for c, factor in enumerate((1.0, 1.1, 0.9, 1.0)):
        records = with_blocks(records, of(records, c, 0), [0.2 * factor] * 8)
    [one] = summary_of(records).ratios
    assert one.effort.more_cohorts > 0
    assert (one.effort.num_rounds, one.effort.best_rounds) == (None, None)


def _pairs(records):
    return pairs(*([r for r in records if r.case == one] for one in (BASE, CASE)))
