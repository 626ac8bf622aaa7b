"""The fastest case of those with one base, and the others against it."""

import dataclasses

from benchmarks.analysis.leaders import fastest, is_told_apart, leaders
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.statistics.ratios import paired_ratio
from tests.unit.analysis.records import case

BASE, FAST, SLOW, OTHER = case(), case("a"), case("b"), case("c")
CASES = {one.case_id: one for one in (BASE, FAST, SLOW, OTHER)}


def compared(one, logs, verdict, *, base=BASE):
    ratio = paired_ratio(logs) if logs else None
    return CaseRatio(base.case_id, one.case_id, aa=False, ratio=ratio, verdict=verdict)


LEADER = compared(FAST, [0.50, 0.51, 0.52], "faster")


def test_the_fastest_is_faster_than_its_base_for_sure():
    uncertain = compared(OTHER, [0.1, 0.9, 1.9], "cant_tell")
    second = compared(SLOW, [0.3, 0.31, 0.32], "faster")
    assert fastest([second, uncertain, LEADER]) is LEADER
    assert fastest([uncertain]) is None


def test_those_that_may_be_as_fast_are_compared_with_it():
    family = [
        LEADER,
        compared(SLOW, [-0.5, -0.51, -0.52], "slower"),
        compared(OTHER, [0.1, 0.9, 1.9], "cant_tell"),
    ]
    assert leaders(family, CASES) == {OTHER: FAST}
    assert leaders(family[1:], CASES) == {}


def test_the_direct_comparison_tells_apart():
    close = compared(SLOW, [0.45, 0.5, 0.55], "faster")
    direct = compared(SLOW, [-0.1, -0.11, -0.12], "slower", base=FAST)
    assert is_told_apart(close, LEADER, direct)
    assert not is_told_apart(close, LEADER, dataclasses.replace(direct, verdict="cant_tell"))


def test_without_common_cohorts_the_intervals_must_be_apart_by_more_than_a_tie():
    few = compared(SLOW, [-0.1], "cant_tell", base=FAST)
    far = compared(SLOW, [0.30, 0.31, 0.32], "faster")
    near = compared(SLOW, [0.4999, 0.5, 0.5001], "faster")
    narrow = compared(FAST, [0.5099, 0.51, 0.5101], "faster")
    for direct in (few, None):
        assert is_told_apart(far, LEADER, direct)
        assert not is_told_apart(near, narrow, direct)
    assert not is_told_apart(compared(SLOW, [], "cant_tell"), LEADER, None)
