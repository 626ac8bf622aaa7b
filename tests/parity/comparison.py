"""How far what a program read is from the reference: pure functions on named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.workload import Arrays, WorkloadSpec


@dataclass(frozen=True)
class Limits:
    """The largest relative errors of a step in one precision."""

    loss: float
    gradient: float
    """Relative L2 norm of the difference, over all compared gradients; of the updates as well."""
    statistics: float
    """The same of the change of the running statistics."""
    gradient_norm: float
    """Of the global norm, over all gradients."""
    stable_only: bool
    """Compare element by element only where the gradient is stable under this rounding."""


LIMITS: Mapping[str, Limits] = {
    # Roundoff of 1.1e-16 through 53 layers, amplified like the others.
    "fp64": Limits(1e-10, 1e-9, 1e-9, 1e-9, stable_only=False),
    # A relative change of 1e-6 in the images changes the gradient by 3e-3: a rectifier or a maximum
    # flips. Implementations that agree in fp64 differ by 1e-4 to 1e-2 in fp32.
    "fp32": Limits(1e-5, 2e-2, 1e-3, 2e-2, stable_only=False),
    # The exact step with convolutions' operands and results rounded to bf16 (the reference itself,
    # three seeds) is off by 39 to 44 % in the gradient as a whole, which is therefore not compared,
    # by 2 to 3 % in the head's, by 0.2 to 3 % in the global norm, by 0.1 % in the loss.
    "bf16": Limits(5e-3, 0.1, 0.1, 0.1, stable_only=True),
}


def failures(
    read: Arrays,
    reference: Arrays,
    *,
    initial: Arrays,
    spec: WorkloadSpec,
    stable: frozenset[str],
    limits: Limits,
) -> list[str]:
    """What differs by more than the limits after one step from the initial weights."""
    if set(read) != set(reference):
        return [f"keys differ: {sorted(set(read) ^ set(reference))}"]
    shapes = [name for name in reference if read[name].shape != reference[name].shape]
    if shapes:
        return [f"shapes differ: {shapes}"]
    own, right = dict(spec.gradients(initial, read)), dict(spec.gradients(initial, reference))
    compared = stable if limits.stable_only else frozenset(right)
    assert compared <= set(right)
    checks = {
        "loss": (relative_error(read, reference, {"loss"}), limits.loss),
        "gradient": (relative_error(own, right, compared), limits.gradient),
        "gradient norm": (abs(_norm(own) / _norm(right) - 1), limits.gradient_norm),
    }
    for group, limit, names in (
        ("weights", limits.gradient, {f"weights/{name}" for name in compared}),
        ("statistics", limits.statistics, {n for n in reference if n.startswith("statistics/")}),
    ):
        if names:
            own, right = _changes(read, initial, names), _changes(reference, initial, names)
            checks[group] = (relative_error(own, right, names), limit)
    return [
        f"{name} off by {error:.2g}, expected at most {limit:.2g}"
        for name, (error, limit) in checks.items()
        if not error <= limit
    ]


def relative_error(values: Arrays, reference: Arrays, names: set[str] | frozenset[str]) -> float:
    """Global L2 norm of the difference over that of the reference, over these names."""
    differences = {name: values[name] - reference[name] for name in names}
    return _norm(differences) / _norm({name: reference[name] for name in names})


def _changes(read: Arrays, initial: Arrays, names: set[str]) -> dict[str, np.ndarray]:
    return {name: read[name] - initial[name.split("/", 1)[1]].astype(np.float64) for name in names}


def _norm(arrays: Arrays) -> float:
    return float(np.sqrt(sum(np.square(a, dtype=np.float64).sum() for a in arrays.values())))
