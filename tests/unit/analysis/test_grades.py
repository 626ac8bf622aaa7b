"""Grades by their table."""

import dataclasses

import pytest

from benchmarks.analysis.grades import Basis, evidence_against, grade, reason_for_f

BEST = Basis(
    num_launches=5,
    half_width=0.01,
    dropped_share=0.0,
    steady=True,
    is_disturbed=False,
    flagged=False,
    aa_contains_one=None,
    disagrees=False,
    serial=False,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "A"),
        ({"aa_contains_one": True}, "A"),
        ({"half_width": 0.02}, "A"),
        ({"num_launches": 4}, "B"),
        ({"half_width": 0.021}, "B"),
        ({"dropped_share": 0.05}, "A"),
        ({"dropped_share": 0.06}, "B"),
        ({"dropped_share": 0.9}, "B"),
        ({"half_width": 0.051}, "C"),
        ({"flagged": True}, "C"),
        ({"serial": True}, "C"),
        ({"serial": True, "half_width": 0.101}, "F"),
        ({"half_width": 0.101}, "F"),
        ({"half_width": float("nan")}, "F"),
        ({"half_width": None}, "F"),
        ({"num_launches": 2}, "F"),
        ({"is_disturbed": True}, "F"),
        ({"steady": False}, "F"),
        ({"aa_contains_one": False}, "F"),
        ({"disagrees": True}, "F"),
    ],
)
def test_grade(changes, expected):
    basis = dataclasses.replace(BEST, **changes)
    assert grade(basis) == expected
    assert (reason_for_f(basis) is None) == (expected != "F")


def test_a_wide_interval_is_no_evidence_against_a_number():
    assert evidence_against(dataclasses.replace(BEST, half_width=0.3, num_launches=3)) is None
    assert evidence_against(dataclasses.replace(BEST, steady=False)) is not None
