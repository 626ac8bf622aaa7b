"""Verdicts after several looks: what was decided stays decided, as long as it is supported."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.analysis.summary import summarise
from tests.unit.analysis.records import case, cohorts, plan
from workloads.resnet50.training_spec import SPECS

BASE, CASE = case(), case("jax", "compiled")


def verdict_of(case_s: list[float], looks: list[int]) -> str:
    """The verdict on cohorts in which the case's step takes these seconds, the base's 0.2."""
    records = []
    for c, (step_s, look) in enumerate(zip(case_s, looks, strict=True)):
        for one in cohorts({BASE: 0.2, CASE: step_s}, num=1, wobble=0.0):
            changes = {"cohort_id": f"cohort{c}", "launch_id": f"{c}{one.launch_id}", "look": look}
            records.append(dataclasses.replace(one, **changes))
    [ratio] = summarise(plan([BASE, CASE]), records, SPECS).ratios
    assert ratio.look == max(looks)
    return ratio.verdict


CLOSE = [0.189, 0.191, 0.188]
"""Faster with p = .02 beyond the margin."""
FURTHER = [0.187, 0.195]


@pytest.mark.parametrize(
    ("case_s", "looks", "expected"),
    [
        (CLOSE, [1, 1, 1], "faster"),
        (CLOSE, [2, 2, 2], "cant_tell"),  # each further look decides at a stricter level
        ([0.18, 0.181, 0.1805], [3, 3, 3], "faster"),
        ([*CLOSE, *FURTHER], [1, 1, 1, 2, 3], "faster"),  # decided at the first look
        ([*CLOSE, 0.21, 0.2], [1, 1, 1, 2, 3], "cant_tell"),  # and no longer supported
    ],
)
def test_a_verdict_is_that_of_the_look_which_decided(
    case_s: list[float], looks: list[int], expected: str
) -> None:
    assert verdict_of(case_s, looks) == expected
