"""The precision that products really had, from operands that tell."""

import numpy as np
import pytest

from benchmarks.contract.program import Effective
from benchmarks.equivalence.checks import integer_checks
from benchmarks.equivalence.precision import (
    convolution,
    largest_error,
    matrix_product,
    precision_like,
    rounded,
)

BITS = {"bf16": 8, "tf32": 11, "fp32": 24}
PRODUCTS = {"gemm": matrix_product, "convolution": convolution}


def convolve(images, kernel):
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = images.shape[1:3]
    taps = [(r, c) for r in range(3) for c in range(3)]
    return sum(padded[:, r : r + height, c : c + width] @ kernel[r, c] for r, c in taps)


def multiplied(product, precision):
    """The product with its operands rounded to the precision, summed in float32."""
    left, right = product.left_operand, product.right_operand
    if precision == "fp64":
        left, right = left.astype(np.float64), right.astype(np.float64)
    elif precision != "fp32":
        left, right = (rounded(one, bits=BITS[precision]) for one in (left, right))
    return left @ right if left.ndim == 2 else convolve(left, right)


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize("precision", ["bf16", "tf32", "fp32", "fp64"])
def test_products_are_recognised_by_their_error(kind, precision):
    product = PRODUCTS[kind]()
    error = product.error(multiplied(product, precision))
    assert precision_like(error) == precision
    assert error <= largest_error(precision)


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize(("named", "real"), [("fp32", "tf32"), ("fp32", "bf16"), ("fp64", "fp32")])
def test_a_coarser_precision_under_another_name_does_not_pass(kind, named, real):
    product = PRODUCTS[kind]()
    assert product.error(multiplied(product, real)) > largest_error(named)


def test_rounding_a_result_to_bf16_does_not_hide_the_operands():
    product = matrix_product()
    result = rounded(multiplied(product, "fp32").astype(np.float32))
    assert precision_like(product.error(result)) != "bf16"


def test_rounding_keeps_the_significant_bits_and_halves_go_to_even():
    values = np.array([1.0, 1 + 2**-7, 1 + 2**-8, 1 + 3 * 2**-8, -3.14159], np.float32)
    expected = [1.0, 1 + 2**-7, 1.0, 1 + 2**-6, -3.140625]
    assert rounded(values).tolist() == expected


@pytest.mark.parametrize(
    ("told", "passes"),
    [((53, 53), True), ((48, 53), True), ((47, 53), False), ((0, 0), False), (None, False)],
)
def test_a_model_in_int8_shows_that_its_products_are_of_integers(told, passes):
    seen = Effective("float32", "uint8", None, integer_products=told)
    (check,) = integer_checks(seen, precision="int8")
    assert check.passes is passes
    (check,) = integer_checks(None, precision="int8")
    assert check.name == "untold"
    assert not check.passes
    assert not list(integer_checks(seen, precision="fp32"))
