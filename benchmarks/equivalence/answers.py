"""Whether an inference program's answers match the oracle's, and if not, the likely causes.

An answer is judged by its logits. NumPy, the contract and equivalence only.

Shapes: R requests that one batch makes, B items of a request, V classes or tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.evidence import Check, ParityVerdict
from benchmarks.contract.mistake import OtherConstant
from benchmarks.contract.program import Arrays
from benchmarks.contract.task import Tolerance
from benchmarks.equivalence.checks import check, first_failure
from benchmarks.equivalence.norms import ratio, relative
from benchmarks.equivalence.suspects import NEAR, Explained
from benchmarks.equivalence.verdict import judge

KnownMistakes = Callable[[str], Iterable[tuple[str, np.ndarray]]]
"""Maps a batch's name to (description, logits RBV) of known mistakes."""
OtherConstants = Callable[[str], Iterable[OtherConstant]]
"""Maps a batch's name to constants that may have another value."""

MIN_WEIGHTS_SHARE = 0.9
"""Smallest size of an exported model, as a share of its weights' bytes; folding removes a few."""
SAME_ANSWER = "the input does not matter: different requests have the same answer"
REPEATED_ANSWER = "some requests have the answer to an earlier one: their input is not used"
LATE_ANSWER = "each answer belongs to the request before"
STALE_STATE = (
    "state of the sequence before is left over (a stale KV cache, or a position that is not reset):"
    " the first sequence is right and a later one is not"
)


def _nothing(name: str) -> Iterator[tuple[str, np.ndarray]]:
    del name
    return iter(())


def _no_constants(name: str) -> Iterator[OtherConstant]:
    del name
    return iter(())


@dataclass(frozen=True)
class Suspects:
    """The mistakes that the workload can compute for a batch."""

    mistakes: KnownMistakes = _nothing
    constants: OtherConstants = _no_constants
    coarsest: float = 0.0
    """If the launch's own matmuls are coarser than named, the tolerance of the coarsest precision:
    an error within it is theirs. Else 0: no difference is blamed on the precision."""


@dataclass(frozen=True)
class Answers:
    """A program's answers, with what is known about their origin."""

    logits: Mapping[str, np.ndarray]
    """Logits RBV by batch, in the order in which the requests were made."""
    answer_error: float
    """Largest difference between the returned answers and those that the logits give."""
    artefact_bytes: int | None = None
    """Size of the exported model."""
    weight_bytes: int | None = None
    """Least size of its weights."""


def judge_answers(
    own: Answers,
    oracle: Arrays,
    tolerance: Tolerance,
    *,
    identity: str | None = None,
    suspects: Suspects = Suspects(),
) -> ParityVerdict:
    """The verdict on these answers, with the likely causes if they differ from the oracle's."""
    names = [name for name in own.logits if name in oracle]
    missing = [n for n in names if own.logits[n].shape != oracle[n].shape]
    if missing or not names:
        worst = next(iter(missing), None)
        return judge([Check("parameters", float(len(missing) or 1), 0.0, worst)], oracle=identity)
    checks = answer_checks(own, oracle, tolerance)
    failed = first_failure(checks)
    if failed is None:
        return judge(checks, oracle=identity)
    causes = likely_causes(own, oracle, tolerance, suspects)
    return judge(
        checks,
        oracle=identity,
        first_difference=_first_difference(own.logits, oracle, tolerance),
        causes=list(causes),
    )


def answer_checks(own: Answers, oracle: Arrays, tolerance: Tolerance) -> list[Check]:
    """The checks of answers whose logits have the oracle's shapes."""
    names = [name for name in own.logits if name in oracle]
    errors = {name: _relative_RB(own.logits[name], oracle[name]) for name in names}
    worst = max(names, key=lambda name: _largest(errors[name]))
    squares = [(np.square(_off(own.logits[n], oracle[n])).sum(), _square(oracle[n])) for n in names]
    whole = ratio(
        float(sum(a for a, _ in squares)) ** 0.5, float(sum(b for _, b in squares)) ** 0.5
    )
    bad = [name for name in names if not np.isfinite(own.logits[name]).all()]
    return [
        Check("finite", float(len(bad)), 0.0, next(iter(bad), None)),
        check("distinct", float(_num_alike([own.logits[name] for name in names])), 0.0),
        check("answer", own.answer_error, 0.0),
        check("logits", whole, tolerance.get("logits")),
        Check(
            "logits_worst",
            _finite(_largest(errors[worst])),
            tolerance.get("logits_worst"),
            _position(worst, errors[worst]),
        ),
        check("argmax", _share_of_other_argmax(own.logits, oracle, names), None),
    ]


def likely_causes(
    own: Answers,
    oracle: Arrays,
    tolerance: Tolerance,
    suspects: Suspects = Suspects(),
) -> Iterator[str]:
    """The mistakes that explain these answers, the likeliest first."""
    num_bytes = own.artefact_bytes
    if num_bytes is not None and num_bytes < MIN_WEIGHTS_SHARE * (own.weight_bytes or 0):
        yield (
            f"the exported model lacks weights: it has {num_bytes:,} bytes, its weights take"
            f" {own.weight_bytes:,} (variables that were not frozen into it)"
        )
        return
    names = [name for name in own.logits if name in oracle]
    num_alike = _num_alike([own.logits[name] for name in names])
    is_behind = _is_behind([own.logits[name] for name in names], [oracle[name] for name in names])
    if is_behind and num_alike < len(names) - 1:
        yield LATE_ANSWER
        return
    if num_alike:
        yield SAME_ANSWER if num_alike == len(names) - 1 else REPEATED_ANSWER
        return
    limit = tolerance.get("logits", 0.0)
    off = [n for n in names if not relative(own.logits[n], oracle[n]) <= limit]
    if not off:
        return
    if off[0] != names[0] and len(names) > 1:
        yield STALE_STATE
        return
    first = off[0]
    if not np.isfinite(own.logits[first]).all():
        return
    explained = Explained({"logits": own.logits[first]}, {"logits": oracle[first]}, {"logits": 1.0})
    mistakes = [*suspects.mistakes(first), *_in_the_output(own.logits[first], oracle[first])]
    found = explained.causes(
        ((mistake, {"logits": logits}) for mistake, logits in mistakes), suspects.constants(first)
    )
    if found:
        yield from found
        return
    if relative(own.logits[first], oracle[first]) <= suspects.coarsest:
        yield "precision: matmuls of a coarser precision than named (TF32, bf16 or integers)"
    num_right = _first_off(own.logits[first], oracle[first], limit)
    if num_right:
        yield (
            "the state between requests, or what depends on their position: the first"
            f" {num_right} of a sequence are right, and the next one is off"
        )


def _in_the_output(own: np.ndarray, right: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Mistakes after the network, each with the logits RBV that it leads to."""
    right = np.asarray(right, np.float64)
    shifted = right - right.max(-1, keepdims=True)
    sums = np.exp(shifted).sum(-1, keepdims=True)
    yield "the answers are probabilities (softmax), not logits", np.exp(shifted) / sums
    yield "the answers are logarithms of probabilities, not logits", shifted - np.log(sums)
    square = float(np.square(right).sum())
    factor = float((np.asarray(own, np.float64) * right).sum()) / square if square else 1.0
    yield f"every logit is {factor:.4g} times the expected one", factor * right
    yield "the classes are shifted by one", np.roll(right, 1, -1)
    yield "the classes are shifted by one, the other way", np.roll(right, -1, -1)
    for index, word in ((-1, "last"), (0, "first")):
        value = own[..., index].flat[0]
        if (own[..., index] == value).all():
            dropped = right.copy()
            dropped[..., index] = value
            yield f"the {word} class is dropped: its logit is always {value:.4g}", dropped


def _first_off(own: np.ndarray, right: np.ndarray, limit: float) -> int:
    """The number of requests of a batch before the first wrong one; 0 if none is wrong."""
    errors_RB = _relative_RB(own, right)
    off_R = ~(errors_RB <= limit).all(axis=1)
    return int(np.argmax(off_R)) if off_R.any() else 0


def _first_difference(own: Arrays, oracle: Arrays, tolerance: Tolerance) -> str | None:
    limit = tolerance.get("logits_worst", tolerance.get("logits"))
    if limit is None:
        return None
    for name in own:
        if name in oracle:
            off = ~(_relative_RB(own[name], oracle[name]) <= limit)
            if off.any():
                return f"logits of {_position(name, off)}"
    return None


def _is_behind(own: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> bool:
    """Whether each answer but the first is much nearer to the previous request's right answer."""
    found = [
        NEAR * np.linalg.norm(_off(mine, before)) < np.linalg.norm(_off(mine, its_own))
        for mine, before, its_own in zip(own[1:], right, right[1:])
    ]
    return bool(found) and all(found)


def _num_alike(logits: Sequence[np.ndarray]) -> int:
    """Number of batches whose logits equal an earlier batch's, bit by bit."""
    seen = [np.ascontiguousarray(one).tobytes() for one in logits]
    return len(seen) - len(set(seen))


def _relative_RB(own: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The relative L2 error of each item of each request; NaN if its logits are not finite."""
    off = np.linalg.norm(_off(own, reference), axis=-1)
    return np.asarray(off / np.linalg.norm(np.asarray(reference, np.float64), axis=-1))


def _off(own: np.ndarray, reference: np.ndarray) -> np.ndarray:
    difference: np.ndarray = np.asarray(own, np.float64) - np.asarray(reference, np.float64)
    return difference


def _square(array: np.ndarray) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _largest(errors: np.ndarray) -> float:
    return float(np.nan_to_num(errors, nan=np.inf, posinf=np.inf).max())


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _position(name: str, values_RB: np.ndarray) -> str:
    """The place of the largest of these values, such as `batch64, request 3, item 0`."""
    request, item = np.unravel_index(
        int(np.argmax(np.nan_to_num(np.asarray(values_RB, np.float64), nan=np.inf, posinf=np.inf))),
        values_RB.shape,
    )
    parts = [name]
    parts += [f"request {request}"] * (values_RB.shape[0] > 1)
    parts += [f"item {item}"] * (values_RB.shape[1] > 1)
    return ", ".join(parts)


def _share_of_other_argmax(own: Arrays, oracle: Arrays, names: Sequence[str]) -> float:
    """Share of the items whose argmax differs; shown only, since near ties make it differ."""
    other = [(own[n].argmax(-1) != oracle[n].argmax(-1)).ravel() for n in names]
    return float(np.concatenate(other).mean())
