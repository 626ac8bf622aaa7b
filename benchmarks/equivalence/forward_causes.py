"""Causes in the forward pass and the loss, and in the running statistics that it updates.

The workload computes each known mistake. Where none explains the step, the running statistics show
the first layer that is off. NumPy and the contract only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.contract.mistake import Outcome
from benchmarks.contract.program import Arrays
from benchmarks.equivalence.norms import TensorError
from benchmarks.equivalence.suspects import Explained
from benchmarks.equivalence.trace import Trace, common_factor

LARGE = 2e-2
"""Relative error of a layer's statistics from which another operation is likely; a smaller error
is likely a slightly different constant."""
LARGEST_ROUNDING = 4e-3
"""Largest relative error of the first layer's statistics that rounding to bf16 can cause."""
FEW_CLASSES = 0.1
"""Largest share of the classes that changed labels may affect."""
MOVED = 0.05
"""Largest share of a gradient's difference that does not cancel over classes if labels changed: a
changed label moves its item from one class to another."""


def is_off(trace: Trace) -> bool:
    """Whether the loss is off, or the running statistics by more than their momentum or bias."""
    if trace.errors.loss > trace.limit("loss"):
        return True
    return _first_layer_off(trace) is not None and not [*in_the_statistics(trace)]


def computed(trace: Trace) -> list[str]:
    """The known mistakes that, when they are computed, explain this step 1."""
    own, right = _outcome(trace, trace.read), _outcome(trace, trace.oracle)
    units = {"loss": trace.limit("loss") * abs(float(right["loss"]))}
    gradients = trace.stable_gradients(trace.oracle)
    norm = float(np.linalg.norm([np.linalg.norm(one) for one in gradients.values()]))
    if norm:
        units.update(dict.fromkeys(gradients, trace.limit("stable_gradient") * norm))
    for error in _first_layer(trace):
        units[f"statistics/{error.name}"] = trace.limit("first_layer") * error.reference
    if not all(np.isfinite(own[name]).all() for name in own):
        return []
    mistakes = (
        (mistake, {"loss": np.asarray(outcome)} if isinstance(outcome, float) else outcome)
        for mistake, outcome in trace.suspects.mistakes()
    )
    return Explained(own, right, units).causes(mistakes, trace.suspects.constants())


def _outcome(trace: Trace, read: Arrays) -> Outcome:
    """What a computed mistake is compared with."""
    first = (f"statistics/{error.name}" for error in _first_layer(trace))
    statistics = {name: read[name] for name in first}
    return {"loss": read["loss"], **trace.stable_gradients(read), **statistics}


def _first_layer(trace: Trace) -> list[TensorError]:
    """The errors of the first layer's running statistics."""
    return next(iter(_layers(trace.errors.statistics)), [])


def in_the_statistics(trace: Trace) -> Iterator[str]:
    """Mistakes in the running statistics alone, which leave the rest of the step as it is."""
    factor = common_factor(trace.errors.statistics)
    if factor is not None and abs(factor - 1) > trace.limit("statistics"):
        yield (
            f"momentum of batch normalisation: the running statistics moved {factor:.3g} times as"
            " far as they should (momentum and 1 - momentum swapped gives 9)"
        )
        return
    position = _first_layer_off(trace)
    means = [e for e in trace.errors.statistics if e.name.endswith("/mean")]
    if position is None or not means:
        return
    if max(_error_of([mean]) for mean in means) <= trace.limit("statistics"):
        name = _layer_name(_layers(trace.errors.statistics)[position])
        yield (
            f"the running variances are off and the means are not, first in {name}:"
            " biased variance (divided by n in place of n - 1)"
        )


def located(trace: Trace) -> Iterator[str]:
    """What the place of the first difference tells, if no known mistake explains it."""
    position = _first_layer_off(trace)
    if position is not None:
        yield from _in_the_layers(trace, position)
    elif _is_of_few_labels(trace):
        yield "labels: a label is changed (the gradients of few classes are off, and cancel)"
    elif not trace.suspects.products_are_exact and not trace.errors.statistics:
        coarsest = max(one.get("loss", 0.0) for one in trace.spec.tolerances.values())
        if trace.errors.loss <= coarsest:
            yield "precision: TF32 or bf16 matmuls under a finer name"


def _first_layer_off(trace: Trace) -> int | None:
    """The position of the first layer of the forward pass whose statistics are off."""
    limit = trace.limit("statistics")
    layers = _layers(trace.errors.statistics)
    return next((i for i, group in enumerate(layers) if _error_of(group) > limit), None)


def _in_the_layers(trace: Trace, position: int) -> Iterator[str]:
    layers = _layers(trace.errors.statistics)
    error = _error_of(layers[position])
    if not trace.suspects.products_are_exact and _looks_rounded(trace, layers[0]):
        yield (
            f"precision: the first layer is off by {_error_of(layers[0]):.1g} already, as"
            " convolutions in a coarser precision are (TF32, bf16, or float32 for float64)"
        )
    elif error >= LARGE:
        before = f", or between {_layer_name(layers[position - 1])} and it" if position else ""
        yield _in_the_layer(trace, _layer_name(layers[position])) + before


def _in_the_layer(trace: Trace, name: str) -> str:
    """The likely mistake before the first layer that is far off."""
    kernel = trace.initial.get(f"{name.rpartition('/')[0]}/kernel")
    if kernel is None or kernel.ndim != 4:
        return f"the forward pass, first in {name}"
    height, width = kernel.shape[:2]
    what = "padding, stride or kernel" if height > 1 else "stride or kernel"
    return f"{what} of the {height}x{width} convolution before {name}"


def _looks_rounded(trace: Trace, first: Sequence[TensorError]) -> bool:
    """Whether the first layer's error is that of a coarser precision's rounding."""
    limit = trace.tolerance.get("first_layer")
    return limit is not None and limit < _error_of(first) < LARGEST_ROUNDING


def _is_of_few_labels(trace: Trace) -> bool:
    """Whether the gradients are off in few classes, and the differences cancel over these."""
    own, right = trace.stable_gradients(trace.read), trace.stable_gradients(trace.oracle)
    for name in own:
        if own[name].ndim == 2:
            off_CV = np.asarray(own[name], np.float64) - right[name]
            squares_V = np.square(off_CV).sum(0)
            order = np.argsort(squares_V)[::-1]
            num_off = int(np.searchsorted(np.cumsum(squares_V[order]), 0.99 * squares_V.sum())) + 1
            few = off_CV[:, order[:num_off]]
            left = float(np.linalg.norm(few.sum(1)))
            is_moved = left < MOVED * float(np.linalg.norm(few))
            return bool(
                squares_V.sum() > 0 and num_off <= FEW_CLASSES * off_CV.shape[1] and is_moved
            )
    return False


def _layers(statistics: Sequence[TensorError]) -> list[list[TensorError]]:
    """The statistics of each normalisation, in the order of the forward pass."""
    groups: dict[str, list[TensorError]] = {}
    for error in statistics:
        groups.setdefault(error.name.rpartition("/")[0], []).append(error)
    return list(groups.values())


def _layer_name(group: Sequence[TensorError]) -> str:
    return group[0].name.rpartition("/")[0]


def _error_of(group: Sequence[TensorError]) -> float:
    difference = math.sqrt(sum(error.difference**2 for error in group))
    reference = math.sqrt(sum(error.reference**2 for error in group))
    return difference / reference if reference else math.inf
