"""The precision of a framework's matmul and convolution, measured. NumPy, the contract only."""

from __future__ import annotations

from benchmarks.contract.evidence import Check
from benchmarks.contract.framework import Framework
from benchmarks.equivalence import precision
from benchmarks.equivalence.checks import check


def precision_checks(framework: Framework, asked: str) -> list[Check]:
    """The errors of a matmul and of a convolution against float64.

    A check fails if the measured precision is coarser than the requested one.
    """
    limit = precision.largest_error(asked)
    matrices, images = precision.matrix_product(), precision.convolution()
    put, get = framework.put, framework.get
    product = framework.matmul(put(matrices.left_operand), put(matrices.right_operand))
    convolved = framework.convolve(put(images.left_operand), put(images.right_operand))
    return [
        check("gemm", matrices.error(get(product)), limit),
        check("convolution", images.error(get(convolved)), limit),
    ]
