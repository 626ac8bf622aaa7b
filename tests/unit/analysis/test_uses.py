"""The use that a reader may make of each row."""

import dataclasses

import pytest

from benchmarks.analysis.summary import summarise
from benchmarks.contract.evidence import FAIL, NOT_COMPARABLE, Evidence, ParityVerdict
from tests.unit.analysis.records import case, cohorts, failed, plan, record
from workloads.resnet50.training_spec import SPECS

BASE, FAST = case(), case("pytorch", "compiled")


def uses(records, *, cases=(BASE, FAST)):
    return [cell.use for cell in summarise(plan(cases), records, SPECS).cells]


def with_evidence(records, one, evidence):
    return [
        dataclasses.replace(record, evidence=evidence) if record.case == one else record
        for record in records
    ]


@pytest.mark.parametrize(
    ("step_s", "wobble", "use"),
    [(0.1, 0.001, "ranked"), (0.4, 0.001, "ranked"), (0.2, 0.001, "tie"), (0.2, 0.1, "undecided")],
)
def test_a_ratio_ranks_ties_or_leaves_open(step_s, wobble, use):
    assert uses(cohorts({BASE: 0.2, FAST: step_s}, wobble=wobble)) == ["base", use]


def test_a_case_that_nothing_is_compared_with_has_its_speed():
    assert uses(cohorts({BASE: 0.2}), cases=[BASE]) == ["speed only"]


def test_unproven_work_has_its_speed():
    whole = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.001)
    assert uses(with_evidence(whole, FAST, Evidence())) == ["base", "speed only"]
    assert uses(with_evidence(whole, BASE, Evidence())) == ["speed only", "speed only"]


@pytest.mark.parametrize("status", [FAIL, NOT_COMPARABLE])
def test_work_that_differs_is_told(status):
    other = Evidence(parity=ParityVerdict(status, reason="the gradient"))
    whole = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.001)
    assert uses(with_evidence(whole, FAST, other)) == ["base", "other work"]
    assert uses(with_evidence(whole, BASE, other)) == ["other work", "speed only"]


def test_disturbed_launches_are_told():
    flags = {number: ["SWAP"] for number in range(8)}
    records = [record(one, c, flags=flags) for c in range(3) for one in (BASE, FAST)]
    assert uses(records) == ["disturbed", "disturbed"]


def test_launches_that_were_not_steady_are_told():
    records = [
        dataclasses.replace(one, steady=one.case != FAST)
        for one in cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.001)
    ]
    assert uses(records) == ["base", "unsteady"]


def test_a_base_that_differs_from_itself_leaves_speeds():
    twins = [record(BASE, c, [0.1] * 8, replica=1) for c in range(3)]
    found = uses([*cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.001), *twins])
    assert found == ["speed only", "speed only"]


def test_what_failed_or_was_not_measured_has_no_use():
    records = [*cohorts({BASE: 0.2, FAST: 0.1}), failed(FAST, 9)]
    assert uses(records, cases=(BASE, FAST, case("jax"))) == ["speed only", None, None]
