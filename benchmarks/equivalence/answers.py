"""Whether an inference program's answers match the oracle's, and if not, the likely causes.

An answer is judged by its logits. NumPy, the contract and equivalence only.

Shapes: R requests that one batch makes, B items of a request, V classes or tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.contract.evidence import Check, ParityVerdict
from benchmarks.contract.program import Arrays
from benchmarks.contract.task import Tolerance
from benchmarks.equivalence.checks import check, first_failure
from benchmarks.equivalence.norms import ratio, relative
from benchmarks.equivalence.verdict import judge

KnownMistakes = Callable[[str], Iterable[tuple[str, np.ndarray]]]
"""Maps a batch's name to (description, logits RBV) of known mistakes."""

MIN_WEIGHTS_SHARE = 0.9
"""Smallest size of an exported model, as a share of its weights' bytes; folding removes a few."""
NEAR = 4
"""A known mistake is likely if the logits are this many times nearer to its logits than to the
right ones, and than the norm of its logits."""
SAME_ANSWER = "the input does not matter: different requests have the same answer"
LATE_ANSWER = "each answer belongs to the request before"
STALE_STATE = (
    "state of the sequence before is left over (a stale KV cache, or a position that is not reset):"
    " the first sequence is right and a later one is not"
)


def _nothing(name: str) -> Iterator[tuple[str, np.ndarray]]:
    del name
    return iter(())


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
    known_mistakes: KnownMistakes = _nothing,
    coarsest: float = 0.0,
) -> ParityVerdict:
    """The verdict on these answers, with the likely causes if they differ from the oracle's.

    `coarsest` is the tolerance of the coarsest precision: an error within it may come from matmuls
    of a coarser precision.
    """
    names = [name for name in own.logits if name in oracle]
    missing = [n for n in names if own.logits[n].shape != oracle[n].shape]
    if missing or not names:
        worst = next(iter(missing), None)
        return judge([Check("parameters", float(len(missing) or 1), 0.0, worst)], oracle=identity)
    checks = answer_checks(own, oracle, tolerance)
    failed = first_failure(checks)
    if failed is None:
        return judge(checks, oracle=identity)
    causes = likely_causes(own, oracle, tolerance, known_mistakes=known_mistakes, coarsest=coarsest)
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
    *,
    known_mistakes: KnownMistakes = _nothing,
    coarsest: float = 0.0,
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
        yield SAME_ANSWER
        return
    limit = tolerance.get("logits", 0.0)
    off = [n for n in names if not relative(own.logits[n], oracle[n]) <= limit]
    if not off:
        return
    if off[0] != names[0] and len(names) > 1:
        yield STALE_STATE
        return
    found = list(_nearest_mistakes(own.logits[off[0]], oracle[off[0]], known_mistakes(off[0])))
    if found:
        yield from found
        return
    error = relative(own.logits[off[0]], oracle[off[0]])
    if error <= coarsest:
        yield "precision: matmuls of a coarser precision than named (TF32, bf16 or integers)"
    first = _first_off(own.logits[off[0]], oracle[off[0]], limit)
    if first:
        yield (
            f"the state between requests: the first {first} of a sequence are right, and the next"
            " one is off"
        )


def _nearest_mistakes(
    own: np.ndarray, right: np.ndarray, known_mistakes: Iterable[tuple[str, np.ndarray]]
) -> Iterator[str]:
    """The mistakes that explain nearly all of the difference, the nearest first."""
    distance = float(np.linalg.norm(_off(own, right)))
    found = [
        (float(np.linalg.norm(_off(own, wrong))), mistake, float(np.linalg.norm(wrong)))
        for mistake, wrong in known_mistakes
    ]
    near = sorted(
        (one, mistake) for one, mistake, whole in found if NEAR * one < min(distance, whole)
    )
    yield from (mistake for _, mistake in near)


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
