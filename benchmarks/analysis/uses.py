"""The use that a reader may still make of a row: of its ratio, its speed alone, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from benchmarks.analysis.equal_work import CellParity
from benchmarks.analysis.grades import Basis, evidence_against
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.contract.evidence import FAIL, NOT_COMPARABLE

Use = Literal[
    "base",
    "ranked",
    "tie",
    "undecided",
    "speed only",
    "disturbed",
    "unsteady",
    "other work",
]
"""base: the others are compared with it. ranked, tie, undecided: what its ratio says. speed only:
it is compared with nothing, because it is alone or unproven, or its base cannot be relied on.
disturbed, unsteady, other work: not even its speed can be relied on, and why."""


def use_of(
    case_id: str,
    comparison: CaseRatio | None,
    *,
    is_base: bool,
    bases: Mapping[str, Basis],
    parity: CellParity,
) -> Use:
    """The use of a case with numbers.

    `comparison` is the one with its base, `is_base` says whether others are compared with it, and
    `bases` are the facts for the grades.
    """
    own = bases[case_id]
    if parity.status in (FAIL, NOT_COMPARABLE):
        return "other work"
    if own.is_disturbed:
        return "disturbed"
    if own.steady is False:
        return "unsteady"
    if comparison is None:
        is_relied_on = parity.is_ranked and evidence_against(own) is None
        return "base" if is_base and is_relied_on else "speed only"
    if comparison.verdict in ("faster", "slower"):
        return "ranked"
    if comparison.verdict == "same":
        return "tie"
    is_open = comparison.verdict == "cant_tell" and not evidence_against(bases[comparison.base])
    return "undecided" if is_open else "speed only"
