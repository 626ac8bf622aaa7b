"""What it would take to decide the comparisons that are undecided."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.analysis.outcomes import Outcome
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.statistics.effort import cohorts_to_decide
from benchmarks.statistics.looks import level_of_look
from benchmarks.statistics.ratios import MIN_LAUNCHES


@dataclass(frozen=True)
class Outlook:
    """The further measuring that is expected to decide what is undecided."""

    num_within: int
    """Undecided comparisons that the same command decides within the protocol's limit."""
    num_beyond: int
    """Those that need more cohorts than the protocol allows."""
    num_hopeless: int
    """Those that a thousand cohorts are not expected to decide."""
    more_cohorts: int
    """Further cohorts that all but the hopeless ones need, over all groups."""
    more_s: float
    """Seconds that these cohorts take."""
    cohorts_in_all: int
    """The most cohorts of one case by then, those so far included."""
    max_time_s: float
    """The protocol's limit of a run's seconds."""


@dataclass(frozen=True)
class _Open:
    """One undecided comparison."""

    comparison: CaseRatio
    needed: int | None
    """Further cohorts after which a verdict is expected."""


def outlook(
    undecided: Sequence[CaseRatio],
    outcomes: Mapping[str, Outcome],
    protocol: MeasuringProtocol,
) -> Outlook:
    """The outlook on these comparisons, as long as their estimates and spreads stay."""
    beside = Counter(one.base for one in undecided)
    found = [_Open(one, _needed(one, beside[one.base])) for one in undecided]
    limit = max_cohorts(protocol)
    known = [one for one in found if one.needed is not None]
    in_all = [one.comparison.num_cohorts + (one.needed or 0) for one in known]
    num_beyond = sum(num > limit for num in in_all)
    more_cohorts, more_s = _cost(known, outcomes)
    return Outlook(
        num_within=len(known) - num_beyond,
        num_beyond=num_beyond,
        num_hopeless=len(found) - len(known),
        more_cohorts=more_cohorts,
        more_s=more_s,
        cohorts_in_all=max(in_all, default=0),
        max_time_s=protocol.max_time_s,
    )


def max_cohorts(protocol: MeasuringProtocol) -> int:
    """The most common cohorts of a comparison that a run measures, those of earlier runs included.

    Comparisons have at least as many if nothing fails: what was asked for is always measured.
    """
    return max(protocol.num_cohorts, protocol.max_cohorts)


def _needed(one: CaseRatio, num_open: int) -> int | None:
    """Further cohorts until a verdict is expected; None if a thousand are too few."""
    num_launches = one.ratio.num_launches if one.ratio else 0
    if one.ratio is None or num_launches < 2:  # nothing is known of the spread
        return MIN_LAUNCHES - num_launches
    level = level_of_look(one.last_look + 1) / num_open
    needed = cohorts_to_decide(one.ratio, target_half_width=math.inf, level=level)
    return None if needed is None else max(needed, 1)


def _cost(found: Iterable[_Open], outcomes: Mapping[str, Outcome]) -> tuple[int, float]:
    """The cohorts that these comparisons need, those of one base together, and their seconds."""
    families: dict[str, list[_Open]] = {}
    for one in found:
        families.setdefault(one.comparison.base, []).append(one)
    num_cohorts, seconds = 0, 0.0
    for base, family in families.items():
        num = max(one.needed or 0 for one in family)
        names = {base, *(one.comparison.case for one in family)}
        num_cohorts += num
        seconds += num * sum(_launch_s(outcomes[name]) for name in names)
    return num_cohorts, seconds


def _launch_s(outcome: Outcome) -> float:
    """What a further launch takes: the median, without the first, which proves and compiles."""
    seconds = [sum(record.phases_s.values()) for record in outcome.records]
    return statistics.median(seconds[1:] or seconds or [0.0])
