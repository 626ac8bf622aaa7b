"""The fastest case of those with one base, against which the others are compared once more.

Two cases that are both faster than their base are told apart by their own ratio, from the cohorts
that both took part in, not by two ratios to the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.analysis.ratios import CaseRatio
from benchmarks.contract.case import Case
from benchmarks.statistics.ratios import MARGIN, MIN_LAUNCHES


def fastest(compared: Sequence[CaseRatio]) -> CaseRatio | None:
    """The largest ratio of those that are faster than their base; None if none is."""
    faster = [one for one in compared if one.verdict == "faster" and not one.aa]
    return max(faster, key=lambda one: one.ratio.ratio if one.ratio else 0.0, default=None)


def leaders(compared: Sequence[CaseRatio], cases: Mapping[str, Case]) -> dict[Case, Case]:
    """For each case that may be as fast as the fastest one with its base, that fastest one."""
    found = {}
    for base in dict.fromkeys(one.base for one in compared):
        family = [one for one in compared if one.base == base and not one.aa]
        leader = fastest(family)
        if leader is not None:
            found.update(
                {
                    cases[one.case]: cases[leader.case]
                    for one in family
                    if one is not leader and one.verdict in ("faster", "same", "cant_tell")
                }
            )
    return found


def is_told_apart(one: CaseRatio, leader: CaseRatio, direct: CaseRatio | None) -> bool:
    """Whether the case is slower than the leader, by more than a tie.

    `direct` is the case against the leader. Without enough common cohorts, as if they ran one after
    another, the intervals of their ratios to the base must be apart by more than a tie.
    """
    if direct is not None and direct.ratio and direct.ratio.num_launches >= MIN_LAUNCHES:
        return direct.verdict == "slower"
    high = one.ratio.high if one.ratio else None
    low = leader.ratio.low if leader.ratio else None
    return high is not None and low is not None and high * (1 + MARGIN) < low
