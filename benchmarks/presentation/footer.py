"""The few lines below a run's tables: how to read them, noise, equal work, what to do next."""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.evidence import INHERITED, PASS
from benchmarks.presentation.wording import count, duration

HOW_TO_READ = "[low, high]: 95 % interval; against base: times its speed (= within 2 %, ? open)"
EVERYTHING_ELSE = "dyno show --notes: grades (how far to trust a row), and everything else"


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
        (rounds.num_in_part, "disturbed in part"),
        (rounds.num_again, "taken again"),
        (rounds.num_dropped, "dropped"),
        (rounds.num_kept, "kept although disturbed"),
    )
    told = ", ".join(f"{num} {what}" for num, what in found if num) or "none disturbed"
    return f"noise: of {count(rounds.num_rounds, 'round')} {told}; speeds are of undisturbed steps"


def _equal_work(summary: RunSummary) -> str:
    shown = [cell for cell in summary.cells if cell.use]
    proven = sum(cell.parity.status == PASS for cell in shown)
    inherited = sum(cell.parity.status == INHERITED for cell in shown)
    at_other_size = f", {inherited} at another size" * (inherited > 0)
    others = ", others are not ranked" * (proven + inherited < len(shown))
    return (
        f"equal work: {proven} of {count(len(shown), 'case')} proven against the float64 reference"
        f"{at_other_size}{others}"
    )


def next_steps(summary: RunSummary) -> Iterator[str]:
    """What should decide the comparisons that are undecided, and measure what is missing."""
    found = summary.outlook
    num = found.num_within + found.num_beyond
    advice = []
    if num:
        limit = f" protocol.max_cohorts={found.cohorts_in_all}" if found.num_beyond else ""
        time = f" --max-time {math.ceil(found.more_s / 60)}m" * (found.more_s > found.max_time_s)
        changes = ["without --fresh"] * summary.is_fresh + [f"with{limit}{time}"] * bool(
            limit + time
        )
        how = " and ".join(changes) or "again"
        advice.append(
            f"next: the same dyno run {how} adds to this, and should decide {count(num, 'row')}:"
            f" about {count(found.more_cohorts, 'more cohort')} in all, {duration(found.more_s)}"
        )
    if found.num_hopeless:
        rows = count(found.num_hopeless, "row")
        advice.append(f"too close to call, however many launches: {rows}")
    if advice:
        yield "; ".join(advice)
    missing = sum(cell.status == "interrupted" for cell in summary.cells)
    if missing:
        yield f"next: the same dyno run again measures {count(missing, 'case')} without a result"
