"""What rounding is allowed for in a step that is held to its own moments."""

import math

import numpy as np
import pytest

from benchmarks.contract.optimizer import SGD, State
from benchmarks.contract.precision import PRECISIONS
from benchmarks.equivalence.norms import tensor_errors
from benchmarks.equivalence.own_update import beyond, causes_of_update, own_errors, rounding_unit

BF16 = np.array([1.0, 1.0078125, -3.0])
FP32 = BF16 + 2.0**-20


@pytest.mark.parametrize(
    ("precision", "unit"),
    [
        *(("fp64", 2.0**-52), ("fp32", 2.0**-23), ("tf32", 2.0**-23), ("bf16", 2.0**-23)),
        *(("fp16", 2.0**-23), ("bf16_pure", 2.0**-7)),
    ],
)
def test_the_spacing_of_stored_values_follows_from_the_precision(precision, unit):
    assert PRECISIONS[precision].stored_unit == unit


def test_values_are_stored_as_what_they_fit_into():
    assert [rounding_unit(one) for one in (BF16, FP32, FP32 + 2.0**-40)] == [
        *(2.0**-7, 2.0**-23, 2.0**-52)
    ]


def test_values_that_are_coarser_than_their_precision_are_allowed_no_more_for_it():
    assert rounding_unit(BF16, coarsest=2.0**-23) == 2.0**-23
    assert rounding_unit(FP32, coarsest=2.0**-7) == 2.0**-23


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_remains_an_error(value):
    [error] = beyond(tensor_errors([("w", np.array([value]))], [("w", np.ones(1))]), {"w": 1.0})
    assert error.difference == math.inf


def test_a_step_to_values_that_are_not_finite_does_not_follow_from_its_moments():
    optimizer = SGD(learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    zero, one = np.zeros(3), np.ones(3)
    before = {"w": State(one, zero, None)}
    after = {"w": State(np.full(3, math.nan), one, None)}
    [error] = own_errors(optimizer, before, after, number=1).updates
    assert error.difference == math.inf


@pytest.mark.parametrize(("factor", "is_named"), [(1.01, True), (1.00001, False)])
def test_a_learning_rate_is_named_only_if_it_is_another(factor, is_named):
    optimizer = SGD(learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    zero, moment = np.zeros(3), np.array([1.0, -2.0, 3.0])
    before = {"w": State(zero, zero, None)}
    after = {"w": State(-0.1 * factor * moment, moment, None)}
    causes = causes_of_update(optimizer, before, after, number=1)
    assert any("learning rate" in one for one in causes) is is_named
