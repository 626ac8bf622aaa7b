"""Norms of differences, tensor by tensor."""

import math

import numpy as np
import pytest

from benchmarks.equivalence.norms import (
    BLOCK,
    angle,
    global_error,
    norm_error,
    relative,
    tensor_errors,
    weighed,
    worst_tensor,
)

REFERENCE = [("a", np.array([3.0, 4.0])), ("b", np.array([[12.0]]))]


def errors(*own):
    return tensor_errors(zip(("a", "b"), own, strict=True), REFERENCE)


def test_equal_arrays_have_no_error():
    same = errors(*(array for _, array in REFERENCE))
    assert global_error(same) == angle(same) == norm_error(same) == 0.0
    assert [one.relative for one in same] == [0.0, 0.0]


def test_the_error_of_all_is_relative_to_all():
    off = errors(np.array([3.0, 4.0]), np.array([[13.3]]))
    assert global_error(off) == pytest.approx(1.3 / 13.0)
    assert norm_error(off) == pytest.approx(math.hypot(5, 13.3) / 13 - 1)
    assert worst_tensor(off).name == "b"


def test_a_factor_is_told_from_another_direction():
    scaled, turned = (
        errors(np.array([6.0, 8.0]), np.array([[12.0]])),
        errors(np.array([-4.0, 3.0]), np.array([[12.0]])),
    )
    assert (scaled[0].scale, scaled[0].residual) == (pytest.approx(2.0), pytest.approx(0.0))
    assert turned[0].residual == pytest.approx(1.0)
    assert angle(turned) == pytest.approx(1 - 144 / 169)


def test_what_is_not_finite_is_the_worst():
    broken = errors(np.array([np.nan, 4.0]), np.array([[20.0]]))
    assert worst_tensor(broken).name == "a"
    assert not global_error(broken) <= 1e9


def test_a_tensor_that_hardly_counts_is_weighed_by_what_counts():
    reference = [("large", np.array([1.0])), ("tiny", np.array([1e-12]))]
    found = tensor_errors([("large", np.array([1.0])), ("tiny", np.array([2e-12]))], reference)
    assert found[1].relative == pytest.approx(1.0)
    assert weighed(found[1], found) == pytest.approx(1e-6)


def test_float32_is_compared_in_float64():
    own = np.full(10_000, 0.1, np.float32)
    (found,) = tensor_errors([("a", own)], [("a", np.full(10_000, 0.1))])
    assert found.relative == pytest.approx(abs(float(np.float32(0.1)) - 0.1) / 0.1)


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shapes \[\(2, 3\), \(3, 2\)\], expected one shape"):
        tensor_errors([("a", np.ones((2, 3)))], [("a", np.ones((3, 2)))])


@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 6])
def test_no_element_of_a_large_tensor_is_left_out(place):
    reference = np.ones((3, (2 * BLOCK + 9) // 3))
    own = reference.copy()
    own.reshape(-1)[place] = 3.0
    (found,) = tensor_errors([("a", own)], [("a", reference)])
    assert found.difference == 2.0
    assert found.own**2 == pytest.approx(reference.size + 8)
    assert found.product == reference.size + 2


@pytest.mark.parametrize(
    ("value", "reference", "error"),
    [
        (1.1, 1.0, 0.1),
        (-1.0, 2.0, 1.5),
        (0.0, 0.0, 0.0),
        (1e-9, 0.0, math.inf),
        (math.nan, 1.0, math.inf),
        (math.inf, math.inf, math.inf),
        (1.0, math.inf, math.inf),
    ],
)
def test_relative_errors_of_numbers(value, reference, error):
    assert relative(value, reference) == pytest.approx(error)


def test_relative_errors_of_arrays_are_of_all_elements():
    reference = np.array([[3.0, 0.0], [0.0, 4.0]])
    assert relative(reference + 0.5, reference) == pytest.approx(0.2)
    assert relative(np.full((2, 2), np.inf), reference) == math.inf
