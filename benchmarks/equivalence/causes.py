"""The likely causes of a step that differs from the oracle: known mistakes by their traces.

Each mistake leaves its own trace in the arrays that a program holds after one step. The running
statistics, layer by layer in the order of the forward pass, show the first layer that differs. The
gradients and the update show mistakes after the forward pass. NumPy and the contract only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Callable, NamedTuple

import numpy as np

from benchmarks.contract.program import Arrays
from benchmarks.contract.task import Tolerance
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.equivalence.checks import StepErrors
from benchmarks.equivalence.norms import TensorError, relative, share_of, tensor_errors

FACTOR_RESIDUAL = 1e-2
"""Largest residual of a tensor whose error counts as a factor."""
LARGE = 2e-2
"""Relative error of a layer's statistics from which another operation is likely; a smaller error
is likely a slightly different constant."""
LARGEST_ROUNDING = 4e-3
"""Largest relative error of the first layer's statistics that rounding to bf16 can cause."""
EPSILON_RESIDUAL = 0.02
"""Largest relative difference between a found epsilon and the known one that it counts as."""
ADAM_CONSTANTS = {"learning_rate", "beta1", "beta2", "epsilon"}
"""Hyperparameters without which Adam's epsilon cannot be found."""
FEW_CLASSES = 0.1
"""Largest share of the classes that changed labels may affect."""


class Trace(NamedTuple):
    """The input of the rules: a step, the oracle's step and their differences."""

    spec: WorkloadSpec
    initial: Arrays
    read: Arrays
    oracle: Arrays
    errors: StepErrors
    tolerance: Tolerance
    known_mistakes: Callable[[], Iterable[tuple[str, float]]] = tuple
    """Yields (description, loss) of known mistakes in the forward pass."""

    def limit(self, name: str) -> float:
        """The tolerance of a check, or a small number if it has none."""
        return self.tolerance.get(name, 1e-2)


def likely_causes(trace: Trace) -> list[str]:
    """The mistakes whose traces are found, the likeliest first; empty if none is known."""
    if trace.errors.unchanged:
        return [f"the step does not update {_listed(trace.errors.unchanged)}"]
    found = [*_factor_on_statistics(trace)]
    layer = None if found else _first_layer_off(trace)
    if layer is not None:
        return [*_in_the_forward_pass(trace, layer)]
    if trace.errors.loss > trace.limit("loss"):
        return [*found, *_in_the_loss(trace)]
    return [*found, *_in_the_gradients(trace), *_in_the_update(trace)]


def first_difference(errors: StepErrors, tolerance: Tolerance) -> str | None:
    """The first tensor, in the order of the forward pass, that exceeds its group's tolerance.

    Statistics come first, since the forward pass computes them.
    """
    groups = (
        ("statistics", errors.statistics, "statistics"),
        ("gradient", errors.gradients, "gradient_tensor"),
        ("update", errors.updates, "update"),
    )
    for what, group, name in groups:
        limit = tolerance.get(name)
        for error in group:
            if limit is not None and not error.relative <= limit:
                return f"{what} of {error.name}"
    return None


def _factor_on_statistics(trace: Trace) -> Iterator[str]:
    """One factor on the change of all statistics: another momentum of batch normalisation."""
    factor = _common_factor(trace.errors.statistics)
    if factor is not None and abs(factor - 1) > trace.limit("statistics"):
        yield (
            f"momentum of batch normalisation: the running statistics moved {factor:.3g} times as"
            " far as they should (momentum and 1 - momentum swapped gives 9)"
        )


def _first_layer_off(trace: Trace) -> int | None:
    """The position of the first layer of the forward pass whose statistics are off."""
    limit = trace.limit("statistics")
    layers = _layers(trace.errors.statistics)
    return next((i for i, group in enumerate(layers) if _error_of(group) > limit), None)


def _in_the_forward_pass(trace: Trace, position: int) -> Iterator[str]:
    layers = _layers(trace.errors.statistics)
    group = layers[position]
    name, error = _layer_name(group), _error_of(group)
    means = [e for e in trace.errors.statistics if e.name.endswith("/mean")]
    if means and max(_error_of([mean]) for mean in means) <= trace.limit("statistics"):
        yield (
            f"the running variances are off and the means are not, first in {name}:"
            " biased variance (divided by n in place of n - 1)"
        )
        return
    if _looks_rounded(trace, layers[0]):
        yield (
            f"precision: the first layer is off by {_error_of(layers[0]):.1g} already, as"
            " convolutions in a coarser precision are (TF32, bf16, or float32 for float64)"
        )
        return
    before = f", or between {_layer_name(layers[position - 1])} and it" if position else ""
    if error < LARGE and position:
        yield (
            f"epsilon of batch normalisation: {name} is the first to be off, by {error:.1g}, and"
            f" its input was normalised by {_layer_name(layers[position - 1])}"
        )
    else:
        yield _in_the_layer(trace, name) + before


def _in_the_layer(trace: Trace, name: str) -> str:
    """The likely mistake before the first layer that is far off."""
    kernel = trace.initial.get(f"{name.rpartition('/')[0]}/kernel")
    if kernel is None or kernel.ndim != 4:
        return f"the forward pass, first in {name}"
    if kernel.shape[0] > 1:
        return (
            f"padding (SAME pads a strided convolution on one side), stride or transposed kernel"
            f" of the {kernel.shape[0]}x{kernel.shape[1]} convolution before {name}"
        )
    return (
        f"stride or transposed kernel of the 1x1 convolution before {name} (v1 has the stride"
        f" in the first 1x1, v1.5 in the 3x3)"
    )


def _looks_rounded(trace: Trace, first: Sequence[TensorError]) -> bool:
    """Whether the first layer's error is that of a coarser precision's rounding."""
    limit = trace.tolerance.get("first_layer")
    return limit is not None and limit < _error_of(first) < LARGEST_ROUNDING


def _in_the_loss(trace: Trace) -> Iterator[str]:
    """Causes if the statistics agree and the loss does not."""
    named = list(_mistakes_of_this_loss(trace))
    if named:
        yield from named
        return
    stable = [e for e in trace.errors.gradients if e.name in trace.spec.stable_gradients]
    for error in [e for e in stable if _is_vector(trace, e)] or stable:
        share = _share_off(trace, error.name)
        if 0 < share <= FEW_CLASSES:
            yield (
                f"labels: a label is dropped or changed (the gradient of {error.name} is off in"
                f" {share:.1%} of the classes)"
            )
            return
    matrices = [e for e in stable if not _is_vector(trace, e)]
    if not trace.errors.statistics:
        # The loss exceeds this precision's tolerance, and may be within the coarsest one's.
        coarsest = max(one.get("loss", 0.0) for one in trace.spec.tolerances.values())
        rounded = trace.errors.loss <= coarsest
        also = ", or the precision: TF32 or bf16 matmuls under a finer name" if rounded else ""
        yield f"the forward pass or the loss{also} (there are no running statistics to tell which)"
    elif matrices:
        yield (
            f"transposed dense kernel {matrices[0].name}, or another loss: every layer before it"
            " agrees"
        )
    else:
        yield "the loss itself: labels, mean or sum, smoothing"


def _mistakes_of_this_loss(trace: Trace) -> Iterator[str]:
    """The known mistakes whose loss equals this one and not the right one, the nearest first."""
    own, right, limit = float(trace.read["loss"]), float(trace.oracle["loss"]), trace.limit("loss")
    found = [
        (relative(own, loss), mistake)
        for mistake, loss in trace.known_mistakes()
        if relative(own, loss) <= limit < relative(right, loss)
    ]
    yield from (mistake for _, mistake in sorted(found))


def _in_the_gradients(trace: Trace) -> Iterator[str]:
    limit = trace.tolerance.get("gradient_tensor")
    if limit is None:
        return
    off = [error for error in trace.errors.gradients if not error.relative <= limit]
    if not off:
        yield from _decay_within_rounding(trace)
        return
    yield from _decay(trace, off) or _factors(trace, off) or _first_off(off)


def _decay(trace: Trace, off: Sequence[TensorError]) -> list[str]:
    """Missing or unwanted weight decay: gradients that are off by a multiple of the weights."""
    pairs = zip(
        trace.spec.gradients(trace.initial, trace.read),
        trace.spec.gradients(trace.initial, trace.oracle),
    )
    names = {error.name for error in off}
    differences = ((name, own - right) for (name, own), (_, right) in pairs if name in names)
    return _decays(trace, differences, len(off))


def _decay_in_updates(trace: Trace, off: Sequence[TensorError]) -> list[str]:
    """Missing or unwanted decoupled weight decay: updates off by a multiple of the weights."""
    differences = (
        (error.name, trace.oracle[f"weights/{error.name}"] - trace.read[f"weights/{error.name}"])
        for error in off
    )
    return _decays(trace, differences, len(off))


def _decays(trace: Trace, differences: Iterable[tuple[str, np.ndarray]], num_off: int) -> list[str]:
    """The decays that explain these differences; empty unless they explain every one."""
    found: dict[float, list[str]] = {}
    for name, share in _shares_of_weight(trace, differences):
        found.setdefault(float(f"{share:.2g}"), []).append(name)
    named = []
    for share, names in found.items():
        word = "is missing on" if share < 0 else "is applied to"
        named.append(f"weight decay {word} {_listed(names)} ({abs(share):.2g} of the weight)")
    return named if sum(map(len, found.values())) == num_off else []


def _decay_within_rounding(trace: Trace) -> Iterator[str]:
    """Weight decay that rounding hides in each gradient, found in the median over many."""
    for kind, share in trace.errors.decay.items():
        if abs(share) > trace.limit("decay"):
            yield _decay_text(kind, share)


def _decay_text(kind: str, share: float) -> str:
    word = "is missing on" if share < 0 else "is applied to"
    return f"weight decay {word} the {kind} of most layers ({abs(share):.2g} of the weight)"


def _decoupled_decay(trace: Trace) -> Iterator[str]:
    """Decoupled weight decay that rounding hides in each update, found in the median over many."""
    limit = trace.limit("decoupled_decay")
    for kind, share in trace.errors.decoupled_decay.items():
        if abs(share) > limit:
            yield _decay_text(kind, -share)


def _shares_of_weight(
    trace: Trace, differences: Iterable[tuple[str, np.ndarray]]
) -> Iterator[tuple[str, float]]:
    """(name, multiple) of each tensor whose difference is a multiple of its weight."""
    for name, array in differences:
        difference = np.asarray(array, np.float64).ravel()
        if not np.isfinite(difference).all():
            continue
        weight = np.asarray(trace.initial[name], np.float64).ravel()
        share = share_of(weight, difference)
        if share is None:
            continue
        if np.linalg.norm(difference - share * weight) < 0.1 * np.linalg.norm(difference):
            yield name, share


def _factors(trace: Trace, off: Sequence[TensorError]) -> list[str]:
    """A common factor on gradients, or on the optimizer's state."""
    names = [error.name for error in off]
    kept = tensor_errors(
        ((name, trace.read[f"optimizer/{name}"]) for name in names),
        ((name, trace.oracle[f"optimizer/{name}"]) for name in names),
    )
    factor = _common_factor(off) or _common_factor(kept)
    if factor is None:
        return []
    if len(off) == len(trace.errors.gradients):
        return [
            f"every gradient is {factor:.4g} times the expected one: dampened momentum, another"
            " beta1, loss scale, or sum in place of mean"
        ]
    return [f"the gradient of {_listed(names)} is {factor:.4g} times the expected one"]


def _common_factor(errors: Sequence[TensorError]) -> float | None:
    """The factor by which all of these tensors are off, or None."""
    scales = [e.scale for e in errors if e.scale and _is_factor(e.scale, e.residual)]
    if not scales or len(scales) < len(errors):
        return None
    factor = float(np.median(scales))
    allowed = FACTOR_RESIDUAL * abs(factor - 1)
    return factor if max(abs(scale - factor) for scale in scales) <= allowed else None


def _is_factor(scale: float, residual: float) -> bool:
    """Whether the factor explains most of a tensor's error."""
    return residual < min(FACTOR_RESIDUAL, abs(scale - 1))


def _first_off(off: Sequence[TensorError]) -> list[str]:
    last = off[-1]  # the backward pass begins at the last layer
    return [f"the backward pass: the gradient of {last.name} is the first of it to be off"]


def _in_the_update(trace: Trace) -> Iterator[str]:
    limit = trace.tolerance.get("gradient_tensor", math.inf)
    if any(not error.relative <= limit for error in trace.errors.gradients):
        return
    yield from _in_the_second_moment(trace)
    off = [e for e in trace.errors.updates if not e.relative <= trace.limit("update")]
    if not off:
        yield from _decoupled_decay(trace)
        return
    factor = _common_factor(off)
    if factor is not None:
        yield f"learning rate: the update is {factor:.4g} times the expected one"
        return
    names = [error.name for error in off]
    yield from (
        _decay_in_updates(trace, off)
        or _other_epsilon(trace)
        or [f"the update of {_listed(names)}"]
    )


def _in_the_second_moment(trace: Trace) -> Iterator[str]:
    factor = _common_factor(trace.errors.second_moments)
    if factor is not None and abs(factor - 1) > trace.limit("second_moment"):
        yield f"beta2 of Adam: its second moment is {factor:.4g} times the expected one"


def adam_epsilon(trace: Trace) -> float | None:
    """The epsilon that explains the update, u = -rate m / (sqrt(v) + epsilon); None without one.

    Adam: Kingma and Ba (2015), algorithm 1, with m and v corrected for their bias. A decoupled
    decay cancels against the oracle's update. The smallest gradients determine epsilon best.
    """
    constants = trace.spec.hyperparameters
    if not trace.errors.second_moments or not constants.keys() >= ADAM_CONSTANTS:
        return None
    gathered: list[np.ndarray] = []
    for name in (error.name for error in trace.errors.second_moments):
        first, second, new, right = (
            np.asarray(arrays[f"{group}/{name}"], np.float64).ravel()
            for arrays, group in (
                (trace.oracle, "optimizer"),
                (trace.oracle, "second_moment"),
                (trace.read, "weights"),
                (trace.oracle, "weights"),
            )
        )
        moved = constants["learning_rate"] * first / (1 - constants["beta1"])
        root = np.sqrt(second / (1 - constants["beta2"]))
        step = moved / (root + constants["epsilon"]) - (new - right)
        small = (root > 0) & (root < 1e3 * constants["epsilon"]) & (step * moved > 0)
        gathered.append(moved[small] / step[small] - root[small])
    found = np.concatenate(gathered)
    return float(np.median(found)) if found.size else None


def _other_epsilon(trace: Trace) -> list[str]:
    epsilon, constants = adam_epsilon(trace), trace.spec.hyperparameters
    if epsilon is None or abs(epsilon / constants["epsilon"] - 1) < EPSILON_RESIDUAL:
        return []
    outside = constants["epsilon"] / math.sqrt(1 - constants["beta2"])
    instead = f"{epsilon:.3g} in place of {constants['epsilon']:.3g}"
    if abs(epsilon / outside - 1) < EPSILON_RESIDUAL:
        return [
            f"Adam's epsilon is added to the uncorrected root: at step 1 this acts as {instead}"
        ]
    return [f"Adam's epsilon is {instead}"]


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


def _is_vector(trace: Trace, error: TensorError) -> bool:
    return trace.initial[error.name].ndim == 1


def _share_off(trace: Trace, name: str) -> float:
    """Share of the classes (the last axis) that hold 99 % of a gradient's squared error."""
    own, right = (
        np.asarray(read[f"optimizer/{name}"], np.float64) for read in (trace.read, trace.oracle)
    )
    squares = np.square(own - right).reshape(-1, own.shape[-1]).sum(axis=0)
    squares = np.sort(squares)[::-1]
    total = float(squares.sum())
    if not total > 0:
        return 0.0
    return float(np.searchsorted(np.cumsum(squares), 0.99 * total) + 1) / squares.size


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"
