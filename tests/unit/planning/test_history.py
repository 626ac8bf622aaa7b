"""Which earlier launches a plan counts."""

from benchmarks.planning.history import History
from tests.unit.analysis.records import case, failed, key_of, record

CASE = case()
MACHINE = {"machine": {"cpu_model": "Test CPU", "num_cores": 2}}


def test_a_launch_that_only_compiled_fills_no_cohort_and_says_nothing_of_a_launchs_length():
    compiled = record(CASE, 0, cold_cache=True, blocks=(), environment=MACHINE)
    assert History([compiled]).cohorts(key_of(CASE)) == frozenset()
    assert not any(History([compiled])._seconds.values())
    found = History([compiled, record(CASE, 0)]).cohorts(key_of(CASE))
    assert found == {("run1", "cohort0")}


def test_it_ends_no_failure():
    compiled = record(CASE, 1, cold_cache=True, blocks=())
    assert History([failed(CASE, 0), compiled]).has_failed(key_of(CASE))
    assert not History([failed(CASE, 0), compiled, record(CASE, 1)]).has_failed(key_of(CASE))


def test_of_a_serial_cohort_both_timed_launches_are_needed():
    serial = [record(CASE, 0, resident="serial", launch_id=f"launch{i}") for i in range(2)]
    compiled = record(CASE, 0, resident="serial", cold_cache=True, blocks=())
    assert History([compiled, serial[0]]).cohorts(key_of(CASE)) == frozenset()
    assert History([compiled, *serial]).cohorts(key_of(CASE)) == {("run1", "cohort0")}


def test_a_look_counts_once_there_are_launches_enough_for_a_verdict():
    def last_look(*looks):
        return History([record(CASE, i, look=one) for i, one in enumerate(looks)]).last_look(
            key_of(CASE)
        )

    assert last_look() == last_look(1) == last_look(1, 1) == 0
    assert last_look(1, 1, 1) == 1
    assert last_look(1, 1, 1, 2, 4) == 4
