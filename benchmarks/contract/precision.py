"""The precisions: all that the harness knows of each, one entry in one table.

A new precision is an entry here, in the capabilities of the frameworks that have it, and in the
workloads' tolerances. The table is read when a question is asked and never copied at import, so
that a test can plant an entry. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PLAIN, MIXED, QUANTISED = "plain", "mixed", "quantised"
"""Kinds of precision. Plain: all values have it (with tf32, the operands of every product). Mixed:
the operands of products have it, beside fp32 weights, loss and statistics. Quantised: a model's
weights and products have it, and a framework's own products say nothing about it."""


@dataclass(frozen=True)
class Precision:
    """One precision."""

    name: str
    kind: str
    """PLAIN, MIXED or QUANTISED."""
    significant_bits: int
    """Of an operand of a product, the leading bit included."""
    num_bytes: int
    """Bytes of a value as a product reads it."""
    cpu_flop_per_cycle: int
    """FLOP that no core exceeds in a cycle: two AVX-512 FMA units (plain fp64 and fp32), one AMX
    tile unit (the others); Intel 64 and IA-32 Architectures Optimization Reference Manual."""
    dtype: str | None = None
    """NumPy's name, or bfloat16, of the dtype by which its products are known; None if the dtype
    does not tell them from another precision's."""
    products: str | None = None
    """The precision that its products are named after: bf16 for bf16_pure; None: its own name."""
    product_error: float | None = None
    """About the error of its products on the operands of `equivalence.precision`. Rounding to p
    bits leaves a relative error of 2**-p / sqrt(3) or a little less, rms; half of the terms have
    it. None: those of another precision with as many significant bits have the same error."""

    @property
    def is_quantised(self) -> bool:
        """Whether only a model has this precision."""
        return self.kind == QUANTISED


PRECISIONS: Mapping[str, Precision] = {
    one.name: one
    for one in (
        Precision(
            *("fp32", PLAIN),
            significant_bits=24,
            num_bytes=4,
            cpu_flop_per_cycle=64,
            dtype="float32",
            product_error=1e-7,
        ),
        Precision(
            *("tf32", PLAIN),
            significant_bits=11,
            num_bytes=4,
            cpu_flop_per_cycle=64,
            product_error=1.4e-4,
        ),
        Precision(
            *("bf16", MIXED),
            significant_bits=8,
            num_bytes=2,
            cpu_flop_per_cycle=2048,
            dtype="bfloat16",
            product_error=1.1e-3,
        ),
        Precision(
            *("fp16", MIXED),
            significant_bits=11,
            num_bytes=2,
            cpu_flop_per_cycle=2048,
            dtype="float16",
        ),
        Precision(
            *("bf16_pure", PLAIN),
            significant_bits=8,
            num_bytes=2,
            cpu_flop_per_cycle=2048,
            products="bf16",
        ),
        Precision(
            *("fp64", PLAIN),
            significant_bits=53,
            num_bytes=8,
            cpu_flop_per_cycle=32,
            dtype="float64",
            product_error=1e-16,
        ),
        Precision(
            *("int8", QUANTISED),
            significant_bits=8,
            num_bytes=1,
            cpu_flop_per_cycle=4096,
        ),
    )
}
"""By name, in the order in which `all` lists them."""


def products_of(name: str) -> str:
    """The precision that the products of this one are named after: bf16 for bf16_pure."""
    return PRECISIONS[name].products or name


def product_errors() -> dict[str, float]:
    """About the error of each kind of product that its error tells, the coarsest first."""
    known = [(one.product_error, one.name) for one in PRECISIONS.values() if one.product_error]
    return {name: error for error, name in sorted(known, reverse=True)}


def like(name: str) -> str:
    """The kind of product whose error products of this precision have: tf32's with fp16."""
    bits = PRECISIONS[name].significant_bits
    return next(one for one in product_errors() if PRECISIONS[one].significant_bits == bits)


def precision_of(name: str, *, computed_dtype: str | None) -> str:
    """The precision that products asked for by this name have if they are computed in this dtype.

    fp32 for bf16 on a CPU that cannot multiply it: operands are rounded, products are fp32's. If
    the precision has no dtype of its own (tf32, int8), the computed one tells nothing.
    """
    products = products_of(name)
    if PRECISIONS[products].dtype is None:
        return products
    known = (one.name for one in PRECISIONS.values() if one.dtype == computed_dtype)
    return next(known, products) if computed_dtype else products
