"""The few lines below a run's tables: how to read them, noise, equal work, what to do next."""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks.analysis.equal_work import RANKED
from benchmarks.analysis.summary import RunSummary
from benchmarks.presentation.wording import count, duration

HOW_TO_READ = "[low, high]: 95 % interval; against base: times its speed, within 2 % is a tie"
EVERYTHING_ELSE = "dyno show --notes: everything else"


def footer(summary: RunSummary) -> Iterator[str]:
    """The lines; a topic without content has none."""
    if any(cell.use for cell in summary.cells):
        yield HOW_TO_READ
        yield _noise(summary)
        yield _equal_work(summary)
    yield from next_steps(summary)
    yield EVERYTHING_ELSE


def _noise(summary: RunSummary) -> str:
    rounds = summary.rounds
    found = (
        (rounds.num_again, "taken again"),
        (rounds.num_dropped, "dropped"),
        (rounds.num_kept, "kept although disturbed"),
    )
    told = ", ".join(f"{num} {what}" for num, what in found if num) or "none disturbed"
    return f"noise: speeds are undisturbed ones; of {count(rounds.num_rounds, 'round')} {told}"


def _equal_work(summary: RunSummary) -> str:
    shown = [cell for cell in summary.cells if cell.use]
    equal = sum(cell.parity.status in RANKED for cell in shown)
    others = ", others are not ranked" * (equal < len(shown))
    return (
        f"equal work: {equal} of {count(len(shown), 'case')} proven against the float64 reference"
        f"{others}"
    )


def next_steps(summary: RunSummary) -> Iterator[str]:
    """What should decide the comparisons that are undecided, and measure what is missing."""
    found = summary.outlook
    num = found.num_within + found.num_beyond
    advice = []
    if num:
        limit = f" protocol.max_cohorts={found.cohorts_in_all}" if found.num_beyond else ""
        time = f" --max-time {math.ceil(found.more_s / 60)}m" * (found.more_s > found.max_time_s)
        how = f"with{limit}{time}" if limit or time else "again"
        advice.append(
            f"next: the same command {how} should decide {count(num, 'row')}:"
            f" about {count(found.more_cohorts, 'more cohort')}, {duration(found.more_s)}"
        )
    if found.num_hopeless:
        rows = count(found.num_hopeless, "row")
        advice.append(f"too close to call, however many launches: {rows}")
    if advice:
        yield "; ".join(advice)
    missing = sum(cell.status == "interrupted" for cell in summary.cells)
    if missing:
        yield f"next: the same command again measures {count(missing, 'case')} without a result"
