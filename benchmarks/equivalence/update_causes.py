"""Causes in the optimizer: a step's update, held against the formula on the program's own state.

The program's own weights and moments determine its update in any precision, whatever the gradients
are. NumPy and the contract only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from benchmarks.equivalence.gradient_causes import decay_text
from benchmarks.equivalence.norms import share_of
from benchmarks.equivalence.optimizers import (
    Adam,
    Formula,
    adam_mistakes,
    formula_of,
    moved_by,
    parameters_of,
    ratio_of_moments,
)
from benchmarks.equivalence.trace import Trace, common_factor, listed

EXPLAINED = 8
"""A mistake must leave less than one part in this many of the update's difference."""
ABOVE_ROUNDING = 4
"""Times the weights' rounding from which an update differs from its formula."""
BETA2_RESIDUAL = 5e-3
"""Largest relative error of the ratio of Adam's second moment to the square of its first."""


@dataclass
class _Updates:
    """The update of every parameter, and how far it is from the formula and from its mistakes."""

    rounding: float = 0.0
    """All squares are sums over every element; this one is of the weights' rounding."""
    off: float = 0.0
    """Square of the difference from the formula."""
    expected: float = 0.0
    product: float = 0.0
    """The update times the formula's."""
    moved: float = 0.0
    without_decay: float = 0.0
    """Square of the difference that no share of each weight explains."""
    shares: dict[str, float] = field(default_factory=dict)
    """By parameter the share of the weight by which its update differs."""
    of_mistakes: list[float] = field(default_factory=list)
    """By mistake the square of the difference that it leaves."""

    @property
    def is_off(self) -> bool:
        """Whether the update differs from its formula by more than rounding."""
        return math.isfinite(self.off) and self.off > ABOVE_ROUNDING**2 * self.rounding

    def explains(self, left: float) -> bool:
        """Whether this square of what is left is small."""
        return EXPLAINED**2 * left < self.off

    @property
    def factor(self) -> float:
        """The factor on the formula's update that is nearest to the update."""
        return self.product / self.expected if self.expected else math.nan

    @property
    def left_of_factor(self) -> float:
        """Square of the difference that remains with the best factor."""
        return self.moved - self.product**2 / self.expected if self.expected else math.inf


def decoupled_decay(trace: Trace) -> Iterator[str]:
    """Weight decay on the weights themselves that is missing, or that should not be there."""
    formula = formula_of(trace)
    updates = None if formula is None else _updates(trace, formula)
    if updates is None or not updates.is_off or not updates.explains(updates.without_decay):
        return
    largest = max(map(abs, updates.shares.values()))
    found: dict[float, list[str]] = {}
    for name, share in updates.shares.items():
        if abs(share) > 0.1 * largest:
            found.setdefault(float(f"{share:.2g}"), []).append(name)
    how = "" if trace.errors.second_moments else ", decoupled from the gradient"
    for share, names in found.items():
        yield decay_text(-share, f"{listed(names)}{how}")


def in_the_optimizer(trace: Trace) -> list[str]:
    """The other mistake in the optimizer that explains its update best."""
    formula, ratio = formula_of(trace), ratio_of_moments(trace)
    if formula is None:
        return [*_against_the_oracle(trace)]
    if ratio is not None and abs(ratio - 1) > BETA2_RESIDUAL:
        return [*_other_beta2(trace, ratio)]
    mistakes = adam_mistakes(trace)
    updates = _updates(trace, formula, mistakes)
    if not updates.is_off or updates.explains(updates.without_decay):
        return []
    lefts = {one.name: left for one, left in zip(mistakes, updates.of_mistakes)}
    lefts[_factor_text(trace, updates.factor)] = updates.left_of_factor
    best = min(lefts, key=lefts.__getitem__)
    return [best] if updates.explains(lefts[best]) else [*_decay_within_rounding(trace)]


def _decay_within_rounding(trace: Trace) -> Iterator[str]:
    """Decoupled weight decay that rounding hides in each update, found in the median over many."""
    for kind, share in trace.errors.decoupled_decay.items():
        if abs(share) > trace.limit("decoupled_decay"):
            yield decay_text(-share, f"the {kind} of most layers")


def _against_the_oracle(trace: Trace) -> Iterator[str]:
    """A factor on the update, if the optimizer's formula is not known and the gradients agree."""
    limit = trace.tolerance.get("gradient_tensor", math.inf)
    if any(not error.relative <= limit for error in trace.errors.gradients):
        return
    factor = common_factor(
        [error for error in trace.errors.updates if not error.relative <= trace.limit("update")]
    )
    if factor is not None:
        yield _factor_text(trace, factor)


def _factor_text(trace: Trace, factor: float) -> str:
    momentum = trace.spec.hyperparameters.get("momentum", math.nan)
    if abs(factor - 1 - momentum) < 1e-3:
        return f"Nesterov's momentum: the update is {factor:.4g} = 1 + momentum times plain SGD's"
    return f"learning rate: the weights move {factor:.4g} times as far as they should"


def _other_beta2(trace: Trace, ratio: float) -> Iterator[str]:
    """Another decay of Adam's second moment, if the first moment is right."""
    if common_factor(trace.errors.gradients) is None:
        beta2 = 1 - ratio * (1 - trace.spec.hyperparameters["beta2"])
        yield (
            f"beta2 of Adam: its second moment is {ratio:.4g} times the expected one, as with a"
            f" beta2 of {beta2:.4g}"
        )


def _updates(trace: Trace, formula: Formula, mistakes: list[Adam] | None = None) -> _Updates:
    found = _Updates(of_mistakes=[0.0 for _ in mistakes or ()])
    for name in parameters_of(trace):
        weight = np.asarray(trace.initial[name], np.float64).ravel()
        decayed = share_of(
            weight, moved_by(trace, trace.oracle, name) - formula(trace.oracle, name)
        )
        decay = (decayed or 0.0) * weight
        moved = moved_by(trace, trace.read, name)
        expected = formula(trace.read, name) + decay
        off = moved - expected
        found.rounding += _rounding(trace, name)
        found.off += float(off @ off)
        found.expected += float(expected @ expected)
        found.product += float(moved @ expected)
        found.moved += float(moved @ moved)
        found.shares[name] = share_of(weight, off) or 0.0
        left = off - found.shares[name] * weight
        found.without_decay += float(left @ left)
        for index, mistake in enumerate(mistakes or ()):
            left = moved - decay - mistake.step(trace.read, name)
            found.of_mistakes[index] += float(left @ left)
    return found


def _rounding(trace: Trace, name: str) -> float:
    """The square of what the weights' dtype may round off an update."""
    new = trace.read[f"weights/{name}"]
    return float(np.square(np.finfo(new.dtype).eps * np.asarray(new, np.float64)).sum())
