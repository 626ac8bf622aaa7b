"""Distances of named arrays from their references: norms of differences, tensor by tensor.

Everything is summed in float64, block by block: a model's arrays are never held twice, and a block
stays in the processor's cache. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np

BLOCK = 2**16
"""Elements summed at once."""
NEGLIGIBLE = 1e-6
"""A tensor's error is relative to at least this share of the global norm."""


@dataclass(frozen=True)
class TensorError:
    """The L2 norms of a tensor, of its reference and of their difference, and their dot product."""

    name: str
    difference: float
    own: float
    reference: float
    product: float

    @property
    def relative(self) -> float:
        """|own - reference| / |reference|; infinite if only the reference is 0."""
        return ratio(self.difference, self.reference)

    @property
    def scale(self) -> float | None:
        """The factor on the reference that fits the tensor best; None if the reference is 0."""
        return self.product / self.reference**2 if self.reference else None

    @property
    def residual(self) -> float:
        """The relative error that remains with the best factor: 0 if only a factor is off.

        It is the sine of the angle between the tensor and its reference.
        """
        if not (self.own and self.reference):
            return math.inf
        cosine = self.product / (self.own * self.reference)
        return math.sqrt(max(0.0, 1.0 - cosine**2)) if math.isfinite(cosine) else math.inf


@dataclass
class Sums:
    """The sums over a tensor and its reference that make its `TensorError`, block by block."""

    difference: float = 0.0
    own: float = 0.0
    reference: float = 0.0
    product: float = 0.0

    def add(self, own: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Add one more block of both, flat and in float64; returns their difference."""
        difference: np.ndarray = own - reference
        self.difference += float(difference @ difference)
        self.own += float(own @ own)
        self.reference += float(reference @ reference)
        self.product += float(own @ reference)
        return difference

    def error(self, name: str) -> TensorError:
        """The error of the whole tensor."""
        return TensorError(
            name=name,
            difference=math.sqrt(self.difference),
            own=math.sqrt(self.own),
            reference=math.sqrt(self.reference),
            product=self.product,
        )


Named = Iterable[tuple[str, np.ndarray]]
Numbers = Union[float, np.ndarray]


def tensor_errors(own: Named, reference: Named) -> list[TensorError]:
    """The error of each tensor; both sides have the same order and the same shapes."""
    return [_error(name, value, right) for (name, value), (_, right) in zip(own, reference)]


def global_error(errors: Sequence[TensorError]) -> float:
    """|own - reference| / |reference| over all tensors together."""
    return ratio(_norm(e.difference for e in errors), _norm(e.reference for e in errors))


def global_norm(errors: Sequence[TensorError]) -> float:
    """The L2 norm of all own tensors together."""
    return _norm(e.own for e in errors)


def norm_error(errors: Sequence[TensorError]) -> float:
    """The relative error of the norm of all tensors together."""
    return relative(global_norm(errors), _norm(e.reference for e in errors))


def angle(errors: Sequence[TensorError]) -> float:
    """1 - cosine of all tensors together."""
    product = sum(e.product for e in errors)
    norms = global_norm(errors) * _norm(e.reference for e in errors)
    cosine = product / norms if norms else math.nan
    return max(0.0, 1.0 - cosine) if math.isfinite(cosine) else math.inf


def weighed(error: TensorError, errors: Sequence[TensorError]) -> float:
    """A tensor's relative error; a negligible tensor's is relative to the global norm instead."""
    floor = NEGLIGIBLE * _norm(e.reference for e in errors)
    return ratio(error.difference, max(error.reference, floor))


def worst_tensor(errors: Sequence[TensorError]) -> TensorError | None:
    """The tensor with the largest relative error; one that is not finite comes first."""
    if not errors:
        return None
    floor = NEGLIGIBLE * _norm(e.reference for e in errors)

    def severity(error: TensorError) -> float:
        value = ratio(error.difference, max(error.reference, floor))
        return value if math.isfinite(value) else math.inf

    return max(errors, key=severity)


def relative(value: Numbers, reference: Numbers) -> float:
    """|value - reference| / |reference|, for arrays in L2; infinite if either is not finite."""
    right = np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):  # infinity less itself
        difference = np.asarray(value, np.float64) - right
    error = ratio(float(np.linalg.norm(difference)), float(np.linalg.norm(right)))
    return error if math.isfinite(error) else math.inf


def ratio(part: float, whole: float) -> float:
    """The quotient part / whole. If the whole is 0: 0 for a part of 0, else infinite."""
    if not whole:
        return 0.0 if part == 0 else math.inf
    return part / whole


def share_of(weight: np.ndarray, tensor: np.ndarray) -> float | None:
    """The multiple of the weight that is closest to a tensor; None if the weight is 0."""
    flat = np.asarray(weight, np.float64).ravel()
    square = float(flat @ flat)
    return float(tensor.ravel() @ flat) / square if square else None


def in_blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The elements of arrays of one shape, a block of each at a time, flat and in float64.

    ValueError if their shapes differ.
    """
    shapes = {np.shape(array) for array in arrays}
    if len(shapes) != 1:
        raise ValueError(f"received arrays of the shapes {sorted(shapes)}, expected one shape")
    flat = [np.asarray(array).reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield tuple(np.asarray(one[start : start + BLOCK], np.float64) for one in flat)


def _error(name: str, value: np.ndarray, reference: np.ndarray) -> TensorError:
    sums = Sums()
    for own, right in in_blocks(value, reference):
        sums.add(own, right)
    return sums.error(name)


def _norm(norms: Iterable[float]) -> float:
    return math.sqrt(sum(norm**2 for norm in norms))
