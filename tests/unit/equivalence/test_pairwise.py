"""Agreement of the first step."""

import math
from dataclasses import replace

import pytest

from benchmarks.contract.evidence import FirstStep
from benchmarks.equivalence.pairwise import agreement

TOLERANCE = {"loss": 1e-4, "gradient_norm": 2e-2}
REFERENCE = FirstStep(7.0, gradient_norm=3.0)
WHOLE = replace(REFERENCE, update_norm=0.03, statistics_norm=40.0)


def test_agrees_within_the_tolerance_and_keeps_the_largest_error():
    found = agreement(
        [FirstStep(7.0001, gradient_norm=3.0), FirstStep(7.0, gradient_norm=3.03)],
        REFERENCE,
        TOLERANCE,
    )
    assert found.parity == "agrees"
    assert found.reason is None
    assert found.loss_error == pytest.approx(1e-4 / 7)
    assert found.gradient_norm_error == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("launch", "name"),
    [
        (FirstStep(7.001, gradient_norm=3.0), "loss"),
        (FirstStep(7.0, gradient_norm=3.1), "gradient norm"),
        (FirstStep(math.nan, gradient_norm=3.0), "loss"),
        (FirstStep(7.0, gradient_norm=math.inf), "gradient norm"),
    ],
)
def test_one_launch_that_is_off_makes_the_case_disagree(launch, name):
    found = agreement([REFERENCE, launch], REFERENCE, TOLERANCE)
    assert found.parity == "disagrees"
    assert f"step-1 {name} is off" in found.reason


@pytest.mark.parametrize("name", ["update_norm", "statistics_norm"])
def test_a_wrong_learning_rate_or_momentum_shows_in_what_the_step_left(name):
    assert agreement([WHOLE], WHOLE, TOLERANCE).parity == "agrees"
    wrong = replace(WHOLE, **{name: 10 * getattr(WHOLE, name)})
    found = agreement([wrong], WHOLE, TOLERANCE)
    assert found.parity == "disagrees"
    assert f"step-1 {name.replace('_', ' ')} is off" in found.reason
    assert agreement([replace(WHOLE, **{name: None})], WHOLE, TOLERANCE).parity == "unproven"


def test_missing_evidence_is_unproven():
    assert agreement([], REFERENCE, TOLERANCE).parity == "unproven"
    assert agreement([None], REFERENCE, TOLERANCE).parity == "unproven"
    assert agreement([REFERENCE], None, TOLERANCE).parity == "unproven"


def test_a_norm_on_one_side_only_is_unproven():
    lacking = FirstStep(7.0, gradient_norm=None)
    assert agreement([lacking], REFERENCE, TOLERANCE).parity == "unproven"
    assert agreement([REFERENCE], lacking, TOLERANCE).parity == "unproven"


def test_without_a_gradient_the_loss_decides():
    lacking = FirstStep(7.0, gradient_norm=None)
    assert agreement([lacking], lacking, TOLERANCE).parity == "agrees"
    assert agreement([replace(lacking, loss=8.0)], lacking, TOLERANCE).parity == "disagrees"


def test_a_missing_norm_does_not_excuse_a_wrong_loss():
    found = agreement([FirstStep(9.0, gradient_norm=None)], REFERENCE, TOLERANCE)
    assert found.parity == "disagrees"


def test_without_a_tolerance_nothing_is_proven():
    found = agreement([REFERENCE], REFERENCE, None)
    assert (found.parity, found.loss_error) == ("unproven", None)


def test_answers_agree_within_the_tolerances_of_their_loss_and_of_their_logits():
    reference = FirstStep(7.0, answer_norm=30.0)
    tolerance = {"loss": 1e-5, "logits": 1e-3}
    near = FirstStep(7.00001, answer_norm=30.01)
    assert agreement([near], reference, tolerance).parity == "agrees"
    found = agreement([replace(near, answer_norm=30.1)], reference, tolerance)
    assert found.parity == "disagrees"
    assert "answer norm" in found.reason
