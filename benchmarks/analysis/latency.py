"""The latency of a cell's requests: percentiles, each with an interval or as an upper bound.

p50 and p90 are computed for each launch, with an interval over launches. Higher percentiles need
more requests than a launch makes: requests are pooled, and the percentile is given as an upper
bound or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import geometric_mean

from benchmarks.contract.record import Record
from benchmarks.statistics.intervals import Interval, log_t_interval
from benchmarks.statistics.percentiles import (
    HIGHEST_OF_LAUNCHES,
    percentile_of,
    required_samples,
    tail_bound,
)

REPORTED = (50, 90, 99)
"""Percentiles with keys in the document, requested or not."""


@dataclass(frozen=True)
class Latency:
    """Percentiles of seconds per request, over the launches of one cell."""

    num_samples: int
    percentiles: Mapping[int, Interval] = field(default_factory=dict)
    """Percentiles of single launches, with their interval over launches."""
    bounds: Mapping[int, float] = field(default_factory=dict)
    """Upper bounds of percentiles of all launches' requests together."""
    reasons: Mapping[int, str] = field(default_factory=dict)
    """For each requested percentile that is missing, why."""

    @property
    def asked(self) -> set[int]:
        """The requested percentiles, whether known or missing."""
        return {*self.percentiles, *self.bounds, *self.reasons}


def latency_of(records: Sequence[Record], percentiles: Sequence[int]) -> Latency | None:
    """The latency of these launches' requests; None if no requests were timed.

    Launches of one cohort, as the two of a serial one, ran under the same conditions: they are one
    observation.
    """
    launches = [record.request_seconds for record in records]
    if not any(launches):
        return None
    cohorts = [(record.run_id, record.cohort_id) for record in records]
    found: dict[int, Interval] = {}
    bounds: dict[int, float] = {}
    reasons: dict[int, str] = {}
    for percentile in percentiles:
        if percentile <= HIGHEST_OF_LAUNCHES:
            own = [percentile_of(one, percentile) for one in launches]
            known: dict[tuple[str, str], list[float]] = {}
            for cohort, value in zip(cohorts, own, strict=True):
                if value is not None:
                    known.setdefault(cohort, []).append(value)
            if None not in own:
                found[percentile] = log_t_interval([*map(geometric_mean, known.values())])
            else:
                fewest = min(map(len, launches))
                needed = required_samples(percentile)
                reasons[percentile] = f"{fewest} of the {needed} samples that each launch needs"
            continue
        pooled = tail_bound(launches, percentile)
        if pooled.bound is None:
            reasons[percentile] = str(pooled.reason)
        else:
            bounds[percentile] = pooled.bound
    return Latency(sum(map(len, launches)), found, bounds, reasons)
