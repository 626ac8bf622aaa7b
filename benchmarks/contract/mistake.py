"""Mistakes that a workload can compute, so that a wrong result can be explained by one of them.

A mistake is a pair of a description and its outcome; a constant is a mistake of any strength.
NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable

import numpy as np

Outcome = Mapping[str, np.ndarray]
"""The result that a mistake leads to. Training: `loss` of step 1 and, by canonical name, gradients
of `WorkloadSpec.stable_gradients` and `statistics/<name>` of the first layer. Inference: `logits`,
RBV. Parts that it lacks are not compared."""


@dataclass(frozen=True)
class OtherConstant:
    """A constant that a program may have with another value, which is then solved for."""

    name: str
    right: float
    """The workload's value; if it is 0, the constant is solved for on a linear scale."""
    outcome: Callable[[float], Outcome]
    """Maps a value to the outcome that it leads to."""
    others: tuple[float, ...] = ()
    """Common other values, from which the search begins too."""


def rounded(array: np.ndarray, bits: int) -> np.ndarray:
    """The values rounded to this many significant bits, halves to even: 8 as bf16, 11 as TF32."""
    fraction, exponent = np.frexp(np.asarray(array, np.float64))
    return np.asarray(np.ldexp(np.round(np.ldexp(fraction, bits)), exponent - bits))
