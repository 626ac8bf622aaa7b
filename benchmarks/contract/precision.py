"""The precisions: everything that the harness knows about each, in one table.

A new precision needs an entry here, in the capabilities of the frameworks that have it, and in the
workloads' tolerances. The table is read at each use and never copied at import, so that a test can
add an entry. Convolutions have the precision of matmuls. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PLAIN, MIXED, QUANTISED = "plain", "mixed", "quantised"
"""Kinds of precision. Plain: all values have it (with tf32, the operands of every matmul). Mixed:
the operands of matmuls have it; weights, loss and statistics are fp32. Quantised: a model's weights
and matmuls have it, and a framework's own matmul shows nothing about it."""


@dataclass(frozen=True)
class Precision:
    """One precision."""

    name: str
    kind: str
    """PLAIN, MIXED or QUANTISED."""
    significant_bits: int
    """Significant bits of a matmul's operand, including the leading bit."""
    num_bytes: int
    """Bytes of a matmul's operand."""
    cpu_flop_per_cycle: int
    """The most FLOP that a core does in a cycle: two AVX-512 FMA units (plain fp64 and fp32), one
    AMX tile unit (the others); Intel 64 and IA-32 Architectures Optimization Reference Manual."""
    dtype: str | None = None
    """NumPy's name, or bfloat16, of the dtype that identifies its matmuls; None if the dtype is
    another precision's too."""
    products: str | None = None
    """The precision whose matmuls it has: bf16 for bf16_pure; None: its own."""
    product_error: float | None = None
    """The approximate error of its matmuls on the operands of `equivalence.precision`. Rounding to
    p bits leaves an rms relative error of 2**-p / sqrt(3) or a little less, in half of the terms.
    None: another precision with as many significant bits has the same error."""

    @property
    def stored_unit(self) -> float:
        """The relative spacing of the numbers that weights and moments are stored as."""
        is_wide = self.kind != PLAIN or self.num_bytes == 4  # tf32's values are those of fp32
        return 2.0 ** (1 - (24 if is_wide else self.significant_bits))

    @property
    def is_quantised(self) -> bool:
        """Whether only a whole model can have this precision."""
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
"""The precisions by name, in the order in which `all` lists them."""


def products_of(name: str) -> str:
    """The precision whose matmuls this one has: bf16 for bf16_pure."""
    return PRECISIONS[name].products or name


def product_errors() -> dict[str, float]:
    """The approximate matmul error of each precision that it identifies, the coarsest first."""
    known = [(one.product_error, one.name) for one in PRECISIONS.values() if one.product_error]
    return {name: error for error, name in sorted(known, reverse=True)}


def like(name: str) -> str:
    """The precision in `product_errors` with the same error as this one: tf32 for fp16."""
    bits = PRECISIONS[name].significant_bits
    return next(one for one in product_errors() if PRECISIONS[one].significant_bits == bits)


def precision_of(name: str, *, computed_dtype: str | None) -> str:
    """The precision of matmuls that are requested by this name and computed in this dtype.

    It is fp32 for bf16 on a CPU without bf16 units: operands are rounded to bf16, then multiplied
    in fp32. If the precision has no dtype of its own (tf32, int8), the computed dtype is ignored.
    """
    products = products_of(name)
    if PRECISIONS[products].dtype is None:
        return products
    known = (one.name for one in PRECISIONS.values() if one.dtype == computed_dtype)
    return next(known, products) if computed_dtype else products
