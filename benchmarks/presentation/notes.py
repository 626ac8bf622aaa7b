"""All notes on a run: how to read its tables, equal work, noise, intervals, advice."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.record import SERIAL
from benchmarks.presentation.counterparts import counterpart_notes
from benchmarks.presentation.footer import next_steps
from benchmarks.presentation.interval_notes import interval_notes
from benchmarks.presentation.wording import clean, count, names_by_group, way_name, with_interval
from benchmarks.presentation.work_notes import work_notes

HOW_TO_READ = (
    "how to read: [low, high] is the 95 % confidence interval over n launches, each a process;"
    " against base: base's time / case's time, above 1 is faster, within 2 % is a tie;"
    " with several cases per base, verdicts use Holm-adjusted p-values, so that an interval which"
    " excludes 1 is not sufficient;"
    " first step: with a filled compile cache unless marked cold; GiB: peak memory, 2**30 bytes"
)
HOW_TO_READ_LATENCY = (
    "latency: one request in flight, until its answer is on the host; p50 and p90 are computed for"
    " each launch; a higher percentile is an upper bound with 99 % confidence, from the samples of"
    " all launches, each a request or a batch of requests; first answer: export or conversion,"
    " loading and the first request"
)


def notes(summary: RunSummary) -> list[str]:
    """Everything that is known of a run's numbers; a topic without content has no line."""
    return [
        *([HOW_TO_READ] if any(cell.status == "ok" for cell in summary.cells) else []),
        *_latency(summary),
        *_bases(summary),
        *interval_notes(summary),
        *counterpart_notes(summary),
        *_own_clocks(summary),
        *_serial(summary),
        *work_notes(summary),
        *_noise(summary),
        *_grades(summary),
        *_advice(summary),
        *next_steps(summary),
    ]


def _bases(summary: RunSummary) -> Iterator[str]:
    cells = {cell.case.case_id: cell for cell in summary.cells}
    bases = dict.fromkeys(one.base for one in summary.ratios if not one.aa)
    names = dict.fromkeys(way_name(cells[base].case) for base in bases)
    if names:
        yield f"base: {', '.join(names)}"


def _latency(summary: RunSummary) -> Iterator[str]:
    """How to read latencies, the rates, and the samples of each bound, or why it is missing."""
    cells = [cell for cell in summary.cells if cell.latency and cell.status in ("ok", "unproven")]
    if not cells:
        return
    yield HOW_TO_READ_LATENCY
    for unit in dict.fromkeys(str(cell.unit) for cell in cells):
        rates = ((one, one.measured.items_per_s) for one in cells if one.measured)
        known = [
            (one, f" {with_interval(rate.estimate, rate.low, rate.high)}")
            for one, rate in rates
            if rate and str(one.unit) == unit
        ]
        if known:
            yield f"{clean(unit)}s/s in the same loop: {names_by_group(known)}"
    reasons: dict[str, list[tuple[CellSummary, str]]] = {}
    for cell in cells:
        assert cell.latency is not None
        for percentile in cell.latency.bounds:
            told = f"p{percentile} from {cell.latency.num_samples:,} samples"
            reasons.setdefault(told, []).append((cell, ""))
        for percentile, reason in cell.latency.reasons.items():
            reasons.setdefault(f"no p{percentile}, {reason}", []).append((cell, ""))
    for reason, concerned in reasons.items():
        yield f"{reason}: {names_by_group(concerned)}"


def _own_clocks(summary: RunSummary) -> Iterator[str]:
    cells = [(one, "") for one in summary.cells if one.has_own_clock and one.measured]
    if cells:
        yield (
            "times by the framework's own clock, which nothing was held against (simulated?):"
            f" {names_by_group(cells)}"
        )


def _serial(summary: RunSummary) -> Iterator[str]:
    """The cases of which at least one cohort was serial: not alive together with their base."""
    cells = {cell.case.case_id: cell for cell in summary.cells}
    serial = [one for one in summary.ratios if one.resident == SERIAL]
    if serial:
        names = names_by_group((cells[one.case], " (A/A)" * one.aa) for one in serial)
        yield (
            f"one after another, not interleaved: {names}: the four launches of a cohort give one"
            " value of the ratio and of each rate (n counts cohorts); a steady drift of the machine"
            " almost cancels, any other widens the interval; the grade is C at best"
        )


def _noise(summary: RunSummary) -> Iterator[str]:
    rounds = summary.rounds
    if not rounds.num_rounds:
        return
    causes = ", ".join(f"{clean(cause)} {num}" for cause, num in rounds.causes.items())
    dropped = f"{rounds.num_dropped} of {count(rounds.num_rounds, 'round')} dropped"
    if rounds.num_again:
        dropped += f", {rounds.num_again} with a turn taken again"
    if rounds.num_in_part:
        dropped += f", {rounds.num_in_part} with a turn that counts in part"
    if rounds.num_kept:
        dropped += f", {rounds.num_kept} disturbed ones kept, since there are too few others"
    share = rounds.max_foreign_cpu_share
    foreign = (
        "" if share is None else f"; other processes took at most {100 * share:.0f} % of the CPUs"
    )
    yield f"noise: {dropped}{f' ({causes})' if causes else ''}{foreign}"


def _grades(summary: RunSummary) -> Iterator[str]:
    by_reason: dict[str, list[tuple[CellSummary, str]]] = {}
    for cell in summary.cells:
        if cell.grade_reason:
            by_reason.setdefault(cell.grade_reason, []).append((cell, ""))
    for reason, cells in by_reason.items():
        yield f"grade F, {reason}: {names_by_group(cells)}"


def _advice(summary: RunSummary) -> Iterator[str]:
    """The further measuring that would halve the widest interval."""
    known = [one for one in summary.ratios if not one.aa and one.ratio and one.effort]
    if not known:
        return
    widest = max(known, key=_half_width)
    assert widest.effort is not None
    assert widest.ratio is not None
    effort = widest.effort
    cell = next(cell for cell in summary.cells if cell.case.case_id == widest.case)
    num_cohorts = widest.num_cohorts + effort.more_cohorts
    yield (
        f"{count(effort.more_cohorts, 'more cohort')} would halve the interval of"
        f" {names_by_group([(cell, '')])} (protocol.num_cohorts={num_cohorts})"
        + _advice_on_rounds(effort.num_rounds, effort.best_rounds)
    )


def _advice_on_rounds(num_rounds: int | None, best_rounds: int | None) -> str:
    if num_rounds is None or best_rounds is None:
        return ""
    if best_rounds <= num_rounds:
        return "; more rounds would not narrow it"
    return (
        f"; {best_rounds} rounds instead of {num_rounds} would narrow it too, in a new run"
        f" (protocol.min_rounds={best_rounds})"
    )


def _half_width(one: CaseRatio) -> float:
    return (one.ratio.half_width if one.ratio else None) or 0.0
