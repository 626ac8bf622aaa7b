"""Which records speak for a cell."""

import dataclasses

from benchmarks.analysis.outcomes import outcome, outcomes
from benchmarks.contract.plan import Cell
from tests.unit.analysis.records import case, failed, key_of, plan, record

CASE = case()
CELL = Cell(CASE, "run", result_key=key_of(CASE))


def test_all_launches_that_are_ok_count():
    found = outcome(CELL, [record(CASE, 0), record(CASE, 1)])
    assert found.status == "ok"
    assert [r.cohort_id for r in found.records] == ["cohort0", "cohort1"]


AHEAD, BACK = "2027-11-01T00:00:00Z", "2026-10-31T23:55:00Z"
"""A clock that is a year ahead, and one that was set back by minutes."""


def test_a_clock_that_was_ahead_does_not_keep_a_failure():
    found = outcome(CELL, [failed(CASE, 0, "timeout", started_at=AHEAD), record(CASE, 1)])
    assert (found.status, len(found.records)) == ("ok", 1)


def test_a_clock_that_was_set_back_does_not_hide_a_failure():
    found = outcome(CELL, [record(CASE, 0), failed(CASE, 1, "timeout", started_at=BACK)])
    assert found.status == "timeout"


def test_disturbed_launches_never_count_and_name_a_cell_that_has_no_others():
    reason = "the fence could not be tested: the machine is too busy"
    disturbed = failed(CASE, 1, "disturbed", reason=reason)
    assert len(outcome(CELL, [record(CASE, 0), disturbed]).records) == 1
    assert outcome(CELL, [failed(CASE, 0), disturbed]).status == "oom_host"
    alone = outcome(CELL, [disturbed])
    assert (alone.status, alone.reason, alone.log) == ("disturbed", reason, "run1/logs/1.log")


def test_any_failed_launch_makes_the_cell_that_failure():
    found = outcome(CELL, [record(CASE, 0), record(CASE, 1), failed(CASE, 2)])
    assert (found.status, found.reason) == ("oom_host", "out of memory")
    assert found.log == "run1/logs/2.log"
    assert len(found.records) == 2


def test_the_last_of_several_failures_names_the_cell():
    found = outcome(CELL, [failed(CASE, 0, "crashed"), failed(CASE, 1, "timeout")])
    assert found.status == "timeout"


def test_a_retry_in_a_newer_cohort_replaces_the_failure_and_what_came_before_it():
    found = outcome(CELL, [record(CASE, 0), failed(CASE, 1), record(CASE, 2)])
    assert found.status == "ok"
    assert [r.cohort_id for r in found.records] == ["cohort2"]


def test_a_replica_that_was_alive_with_the_failure_is_no_retry():
    replica = record(CASE, 1, replica=1, started_at="2026-11-01T00:01:30Z")
    assert outcome(CELL, [failed(CASE, 1), replica]).status == "oom_host"


def test_the_same_cohort_of_another_run_is_a_retry():
    again = record(CASE, 1, run_id="run2", started_at="2026-11-02T00:00:00Z")
    assert outcome(CELL, [failed(CASE, 1), again]).status == "ok"


def test_interrupted_launches_never_count():
    stopped = dataclasses.replace(record(CASE, 2), status="interrupted", reason="Ctrl-C")
    assert len(outcome(CELL, [record(CASE, 0), stopped]).records) == 1
    assert outcome(CELL, [failed(CASE, 1), stopped]).status == "oom_host"
    alone = outcome(CELL, [stopped])
    assert (alone.status, alone.reason, alone.records) == ("interrupted", "Ctrl-C", ())


def test_a_failure_without_a_reason_names_its_phase():
    assert outcome(CELL, [failed(CASE, 0, reason=None)]).reason == "ended in phase turn"


def test_a_skipped_cell_keeps_the_plans_reason():
    found = outcome(Cell(CASE, "skip", "not_installed", "jax is not installed"), [])
    assert (found.status, found.reason) == ("not_installed", "jax is not installed")


def test_a_cell_without_records_waits_for_the_next_run():
    found = outcome(CELL, [])
    assert found.status == "interrupted"
    assert "the same command continues" in found.reason


def test_records_are_found_by_result_key_in_every_run_unless_the_plan_is_fresh():
    other = case("jax", "compiled")
    records = [
        record(CASE, 0, run_id="run0"),
        record(CASE, 1, result_key="an older implementation"),
        record(other, 1, run_id="run0"),
        record(CASE, 2),
    ]
    found = outcomes(plan([CASE, other]), records)
    assert [r.cohort_id for r in found[CASE.case_id].records] == ["cohort0", "cohort2"]
    assert len(found[other.case_id].records) == 1
    fresh = outcomes(plan([CASE, other], fresh=True), records)
    assert [r.cohort_id for r in fresh[CASE.case_id].records] == ["cohort2"]
    assert fresh[other.case_id].status == "interrupted"


def compiled(cohort, **changes):
    """A launch that filled its compile cache and took no turn."""
    return record(CASE, cohort, cold_cache=True, blocks=(), launch_id=f"cold{cohort}", **changes)


def test_a_launch_that_only_compiled_is_kept_and_is_none_of_the_measured_ones():
    found = outcome(CELL, [compiled(0), record(CASE, 0), record(CASE, 1)])
    assert (found.status, len(found.records)) == ("ok", 3)
    assert [one.launch_id for one in found.launches()] == [
        one.launch_id for one in (record(CASE, 0), record(CASE, 1))
    ]


def test_a_launch_that_only_exported_is_none_of_the_measured_ones_either():
    exported = record(CASE, 0, warmup_ns=(), blocks=(), launch_id="exported")
    assert outcome(CELL, [exported]).status == "interrupted"
    found = outcome(CELL, [exported, record(CASE, 1)])
    assert (found.status, len(found.records), len(found.launches())) == ("ok", 2, 1)


def test_a_cell_that_has_only_compiled_is_not_measured_yet():
    assert outcome(CELL, [compiled(0)]).status == "interrupted"
    assert outcome(CELL, [failed(CASE, 0, "timeout"), compiled(1)]).status == "timeout"
    assert outcome(CELL, [compiled(0), failed(CASE, 0, "timeout")]).status == "timeout"
