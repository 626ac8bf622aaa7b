"""The table of precisions, and what is read from it."""

import pytest

from benchmarks.contract.precision import (
    PRECISIONS,
    like,
    precision_of,
    product_errors,
    products_of,
)


@pytest.mark.parametrize(
    ("name", "products"), [("bf16_pure", "bf16"), ("bf16", "bf16"), ("int8", "int8")]
)
def test_products_are_named_after_the_precision_of_their_operands(name, products):
    assert products_of(name) == products


def test_errors_of_products_are_listed_from_the_coarsest():
    assert list(product_errors()) == ["bf16", "tf32", "fp32", "fp64"]


@pytest.mark.parametrize(
    ("name", "kind"), [("fp16", "tf32"), ("bf16_pure", "bf16"), ("int8", "bf16"), ("fp64", "fp64")]
)
def test_as_many_significant_bits_have_the_same_error(name, kind):
    assert like(name) == kind


def test_every_precision_has_a_kind_of_error():
    assert {like(name) for name in PRECISIONS} == set(product_errors())


@pytest.mark.parametrize(
    ("name", "dtype", "real"),
    [
        ("bf16", "float32", "fp32"),
        ("bf16_pure", "float32", "fp32"),
        ("bf16_pure", None, "bf16"),
        ("fp32", "float64", "fp64"),
        ("fp32", "float8", "fp32"),
        ("tf32", "float32", "tf32"),
        ("int8", "float32", "int8"),
    ],
)
def test_the_dtype_of_products_tells_their_real_precision(name, dtype, real):
    assert precision_of(name, computed_dtype=dtype) == real
