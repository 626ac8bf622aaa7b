"""What is likely wrong with a step that differs from the oracle: known mistakes by their traces.

Each mistake leaves its own trace in what a program holds after one step. The running statistics of
the layers, in the order of the forward pass, tell where the forward pass leaves the oracle's; the
gradients and the update tell what became of it then. NumPy and the contract only.
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
"""What may be left of a tensor whose error is a factor."""
LARGE = 2e-2
"""Relative error of a layer's statistics from which another operation, and not a slightly other
constant, is likely."""
LARGEST_ROUNDING = 4e-3
"""Relative error of the first layer's statistics that rounding operands to bf16 can make."""
EPSILON_RESIDUAL = 0.02
"""How far an epsilon that is found may be from one that is known."""
ADAM_CONSTANTS = {"learning_rate", "beta1", "beta2", "epsilon"}
"""Without them in a workload's hyperparameters nothing is said of Adam's epsilon."""
FEW_CLASSES = 0.1
"""Share of the classes in which a changed label can show."""


class Trace(NamedTuple):
    """Everything that the rules look at."""

    spec: WorkloadSpec
    initial: Arrays
    read: Arrays
    oracle: Arrays
    errors: StepErrors
    tolerance: Tolerance
    known_mistakes: Callable[[], Iterable[tuple[str, float]]] = tuple
    """Known mistakes of the forward pass, each with the loss that it leads to."""

    def limit(self, name: str) -> float:
        """The tolerance of a check, or a small number where it has none."""
        return self.tolerance.get(name, 1e-2)


def likely_causes(trace: Trace) -> list[str]:
    """The mistakes whose traces are there, the likeliest first; empty where none is known."""
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
    """The first tensor, in the order of the forward pass, that is off by more than its group may.

    Statistics come first, since they are computed on the way forward.
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
    """One factor on the change of all statistics: the new batch has another weight in them."""
    factor = _common_factor(trace.errors.statistics)
    if factor is not None and abs(factor - 1) > trace.limit("statistics"):
        yield (
            f"momentum of batch normalisation: the running statistics moved {factor:.3g} times as"
            " far as they should (momentum and 1 - momentum swapped gives 9)"
        )


def _first_layer_off(trace: Trace) -> int | None:
    """The position of the first layer, going forward, whose statistics are off."""
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
            f"precision: the first layer is off by {_error_of(layers[0]):.1g} already, as products"
            " of a coarser precision make it (TF32, bf16, or float32 in place of float64)"
        )
        return
    before = f" or of what comes before it, {_layer_name(layers[position - 1])}" if position else ""
    if error < LARGE and position:
        yield (
            f"epsilon of batch normalisation: {name} is the first to be off, by {error:.1g}, and"
            f" takes what {_layer_name(layers[position - 1])} has normalised"
        )
    else:
        yield _in_the_layer(trace, name) + before


def _in_the_layer(trace: Trace, name: str) -> str:
    """What is likely wrong before the first layer that is far off."""
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
    """Whether the first layer is off by a rounding error, and by more than this precision's."""
    limit = trace.tolerance.get("first_layer")
    return limit is not None and limit < _error_of(first) < LARGEST_ROUNDING


def _in_the_loss(trace: Trace) -> Iterator[str]:
    """The forward pass agrees as far as its statistics tell, and the loss does not."""
    named = list(_by_suspects(trace))
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
        # Beyond this precision's limit, and within that of the coarsest.
        coarsest = max(one.get("loss", 0.0) for one in trace.spec.tolerances.values())
        rounded = trace.errors.loss <= coarsest
        also = ", or the precision: TF32 or bf16 products under a finer name" if rounded else ""
        yield f"the forward pass or the loss{also}: nothing in between was read"
    elif matrices:
        yield (
            f"transposed dense kernel {matrices[0].name}, or another loss: every layer before it"
            " agrees"
        )
    else:
        yield "the loss itself: labels, mean or sum, smoothing"


def _by_suspects(trace: Trace) -> Iterator[str]:
    """The known mistakes whose loss it is, and which the right loss is not; the nearest first."""
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
    """Gradients that are off by a multiple of the weights: a decay that is missing, or too much."""
    pairs = zip(
        trace.spec.gradients(trace.initial, trace.read),
        trace.spec.gradients(trace.initial, trace.oracle),
    )
    names = {error.name for error in off}
    differences = ((name, own - right) for (name, own), (_, right) in pairs if name in names)
    return _decays(trace, differences, len(off))


def _decay_in_updates(trace: Trace, off: Sequence[TensorError]) -> list[str]:
    """The same of updates, which a decay past the gradients shortens."""
    differences = (
        (error.name, trace.oracle[f"weights/{error.name}"] - trace.read[f"weights/{error.name}"])
        for error in off
    )
    return _decays(trace, differences, len(off))


def _decays(trace: Trace, differences: Iterable[tuple[str, np.ndarray]], num_off: int) -> list[str]:
    """The decays that explain these differences, where they explain every one."""
    found: dict[float, list[str]] = {}
    for name, share in _shares_of_weight(trace, differences):
        found.setdefault(float(f"{share:.2g}"), []).append(name)
    named = []
    for share, names in found.items():
        word = "is missing on" if share < 0 else "is applied to"
        named.append(f"weight decay {word} {_listed(names)} ({abs(share):.2g} of the weight)")
    return named if sum(map(len, found.values())) == num_off else []


def _decay_within_rounding(trace: Trace) -> Iterator[str]:
    """Decay that hides in the rounding of each gradient, and shows in what many have in common."""
    for kind, share in trace.errors.decay.items():
        if abs(share) > trace.limit("decay"):
            yield _decay_text(kind, share)


def _decay_text(kind: str, share: float) -> str:
    word = "is missing on" if share < 0 else "is applied to"
    return f"weight decay {word} the {kind} of most layers ({abs(share):.2g} of the weight)"


def _decoupled_decay(trace: Trace) -> Iterator[str]:
    """The same in the updates, which it makes smaller; nothing else may be off in them."""
    limit = trace.limit("decoupled_decay")
    for kind, share in trace.errors.decoupled_decay.items():
        if abs(share) > limit:
            yield _decay_text(kind, -share)


def _shares_of_weight(
    trace: Trace, differences: Iterable[tuple[str, np.ndarray]]
) -> Iterator[tuple[str, float]]:
    """The multiple of its weight that a tensor is off by, where it is off by nothing else."""
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
    """Gradients that are off by a factor, or what the optimizer has made of them."""
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
            f"every gradient is {factor:.4g} times what it should be: dampened momentum, another"
            " beta1, loss scale, or sum in place of mean"
        ]
    return [f"the gradient of {_listed(names)} is {factor:.4g} times what it should be"]


def _common_factor(errors: Sequence[TensorError]) -> float | None:
    """The one factor by which all of these are off, or None."""
    scales = [e.scale for e in errors if e.scale and _is_factor(e.scale, e.residual)]
    if not scales or len(scales) < len(errors):
        return None
    factor = float(np.median(scales))
    allowed = FACTOR_RESIDUAL * abs(factor - 1)
    return factor if max(abs(scale - factor) for scale in scales) <= allowed else None


def _is_factor(scale: float, residual: float) -> bool:
    """Whether the factor is most of what a tensor is off by."""
    return residual < min(FACTOR_RESIDUAL, abs(scale - 1))


def _first_off(off: Sequence[TensorError]) -> list[str]:
    last = off[-1]  # going backward, the last of the forward pass is the first
    return [f"the backward pass: going back, the gradient of {last.name} is the first to be off"]


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
        yield f"learning rate: the weights moved {factor:.4g} times as far as they should"
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
        yield f"beta2 of Adam: its second moment is {factor:.4g} times what it should be"


def adam_epsilon(trace: Trace) -> float | None:
    """The epsilon that explains the update, u = -rate m / (sqrt(v) + epsilon); None without one.

    Adam's, Kingma and Ba (2015), algorithm 1, with m and v corrected for their bias. What the
    oracle's update has beside it, a decay, is left out. The smallest gradients tell it best.
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
            f"Adam's epsilon stands outside the bias-corrected root: at step 1 that is {instead}"
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
    """Share of the classes, the last axis, that make up nearly all of a gradient's error."""
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
