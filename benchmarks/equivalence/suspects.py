"""Which known mistake explains a wrong result: each is computed, and must explain nearly all of it.

NumPy and the contract only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from benchmarks.contract.mistake import OtherConstant, Outcome

NEAR = 4
"""A mistake is likely if the result is this many times nearer to its outcome than to the right one,
and than the norm of its outcome."""
AS_MUCH = 1.5
"""A common value of a constant is taken for the solved one if it leaves at most so many times as
much of the difference."""
MAX_ITERATIONS = 8
SMALL_CHANGE = 1e-3
"""Change of a constant, or of its logarithm, from which the outcome's slope is taken."""
LARGEST_CHANGE = 2.0
"""The most that one iteration changes a constant, or its logarithm."""


class Explained:
    """A wrong result beside the right one, each part in units of its tolerance."""

    def __init__(self, own: Outcome, right: Outcome, units: Mapping[str, float]) -> None:
        self._own = own
        self._right = right
        self._units = {name: units[name] for name in own if name in units and name in right}

    def causes(
        self, mistakes: Iterable[tuple[str, Outcome]], constants: Iterable[OtherConstant] = ()
    ) -> list[str]:
        """The mistakes and constants that explain the result best, the nearest first."""
        found = sorted([*self._mistakes(mistakes), *self._constants(constants)])
        best = [mistake for left, mistake in found if left <= NEAR * found[0][0]]
        return list(dict.fromkeys(best))

    def _mistakes(self, mistakes: Iterable[tuple[str, Outcome]]) -> Iterator[tuple[float, str]]:
        for mistake, wrong in mistakes:
            left = self._left(wrong)
            if left is not None:
                yield left, mistake

    def _constants(self, constants: Iterable[OtherConstant]) -> Iterator[tuple[float, str]]:
        for constant in constants:
            if not any(np.size(self._own[name]) > 1 for name in self._units):
                return  # one number would be explained by any constant
            lefts = {}
            for value in (*constant.others, self._solved(constant)):
                left = self._left(constant.outcome(value))
                if left is not None and value != constant.right:
                    lefts[value] = left
            # Rounding moves what is solved for: a common value that explains as much is likelier.
            best = [one for one, left in lefts.items() if left <= AS_MUCH * min(lefts.values())]
            if best:
                yield lefts[best[0]], _text(constant, best[0])

    def _left(self, wrong: Outcome) -> float | None:
        """The share of the difference that this outcome leaves; None if it explains too little."""
        names = [name for name in self._units if name in wrong]
        own, right, other = (
            self._vector(arrays, names) for arrays in (self._own, self._right, wrong)
        )
        distance = float(np.linalg.norm(own - right))
        left = float(np.linalg.norm(own - other))
        if own.size == 1 and left > 1:
            return None  # one number is near to many
        whole = float(np.linalg.norm(other))
        return left / distance if left * NEAR < min(distance, whole) else None

    def _solved(self, constant: OtherConstant) -> float:
        """The value whose outcome is nearest to the result, by Gauss and Newton's method."""
        is_logarithmic = constant.right > 0

        def value_at(place: float) -> float:
            return constant.right * math.exp(place) if is_logarithmic else place

        def outcome_at(place: float) -> np.ndarray:
            return self._vector(constant.outcome(value_at(place)), names)

        names = [name for name in self._units if name in constant.outcome(constant.right)]
        own = self._vector(self._own, names)
        places = [
            math.log(one / constant.right) if is_logarithmic else one for one in constant.others
        ]
        places.append(0.0)
        place = min(places, key=lambda one: float(np.linalg.norm(own - outcome_at(one))))
        for _ in range(MAX_ITERATIONS):
            here = outcome_at(place)
            slope = (outcome_at(place + SMALL_CHANGE) - here) / SMALL_CHANGE
            square = float(slope @ slope)
            if not (square > 0 and math.isfinite(square)):
                break
            change = float((own - here) @ slope) / square
            place += min(max(change, -LARGEST_CHANGE), LARGEST_CHANGE)
            if abs(change) < SMALL_CHANGE**2:
                break
        return value_at(place)

    def _vector(self, outcome: Outcome, names: list[str]) -> np.ndarray:
        """These parts of an outcome as one vector, in units."""
        parts = [
            np.asarray(outcome[name], np.float64).ravel() / self._units[name] for name in names
        ]
        return np.concatenate(parts) if parts else np.zeros(1)


def _text(constant: OtherConstant, value: float) -> str:
    """The constant and its value, with as many digits as tell it from the right one."""
    digits = 3
    if constant.right:
        change = abs(value / constant.right - 1)
        digits = max(digits, 1 - math.floor(math.log10(change))) if change > 0 else digits
    return f"{constant.name}: {value:.{digits}g} in place of {constant.right:.{digits}g}"
