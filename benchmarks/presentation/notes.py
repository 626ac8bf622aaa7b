"""The notes below a run's tables: how to read them, equal work, machine, noise, advice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.equal_work import EffectiveSettings
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.case import TUNED
from benchmarks.contract.evidence import FAIL, INHERITED, NOT_COMPARABLE, PASS
from benchmarks.contract.record import SERIAL
from benchmarks.contract.units import GIB
from benchmarks.presentation.counterparts import counterpart_notes
from benchmarks.presentation.wording import clean, count, group_name, way_name, with_interval
from benchmarks.statistics.ratios import MARGIN

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
FASTEST_MATMUL = "the fastest matmul measured here"
SETTING_WORDS = {
    "integer_products": "convolutions and matmuls in integers",
    "products": "measured matmul precision",
    "computed_in": "matmul dtype",
}
"""The words for settings whose name does not explain them."""
AA_WORDS = {
    True: "contains 1 as expected",
    False: "does not contain 1, so nothing is ranked against this base",
    None: "no interval",
}


def notes(summary: RunSummary) -> list[str]:
    """The lines below the tables, the most needed first; a topic without content has no line."""
    return [
        f"run {clean(summary.run_id)}, protocol {clean(summary.protocol)}",
        *([HOW_TO_READ] if any(cell.status == "ok" for cell in summary.cells) else []),
        *_latency(summary),
        *_bases(summary),
        *counterpart_notes(summary),
        *_own_clocks(summary),
        *_serial(summary),
        *_parity(summary),
        *_differences(summary),
        *_utilisation(summary),
        *_aa(summary),
        *_noise(summary),
        *_machine(summary.machine),
        *_grades(summary),
        *_advice(summary),
    ]


def _bases(summary: RunSummary) -> Iterator[str]:
    cells = {cell.case.case_id: cell for cell in summary.cells}
    bases = dict.fromkeys(one.base for one in summary.ratios if not one.aa)
    names = dict.fromkeys(way_name(cells[base].case) for base in bases)
    if names:
        yield f"base: {', '.join(names)}"


def _latency(summary: RunSummary) -> Iterator[str]:
    """How to read latencies, the rates, and the samples of each bound, or why it is missing."""
    cells = [cell for cell in summary.cells if cell.latency and cell.status in SHOWN]
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
            yield f"{clean(unit)}s/s in the same loop: {_by_group(known)}"
    reasons: dict[str, list[tuple[CellSummary, str]]] = {}
    for cell in cells:
        assert cell.latency is not None
        for percentile in cell.latency.bounds:
            told = f"p{percentile} from {cell.latency.num_samples:,} samples"
            reasons.setdefault(told, []).append((cell, ""))
        for percentile, reason in cell.latency.reasons.items():
            reasons.setdefault(f"no p{percentile}, {reason}", []).append((cell, ""))
    for reason, concerned in reasons.items():
        yield f"{reason}: {_by_group(concerned)}"


def _own_clocks(summary: RunSummary) -> Iterator[str]:
    cells = [(one, "") for one in summary.cells if one.has_own_clock and one.measured]
    if cells:
        yield (
            "times by the framework's own clock, which nothing was held against (simulated?):"
            f" {_by_group(cells)}"
        )


def _serial(summary: RunSummary) -> Iterator[str]:
    """The cases of which at least one cohort was serial: not alive together with their base."""
    cells = {cell.case.case_id: cell for cell in summary.cells}
    serial = [one for one in summary.ratios if one.resident == SERIAL]
    if serial:
        names = _by_group((cells[one.case], " (A/A)" * one.aa) for one in serial)
        yield (
            f"one after another, not interleaved: {names}: the four launches of a cohort give one"
            " value of the ratio and of each rate (n counts cohorts); a steady drift of the machine"
            " almost cancels, any other widens the interval; the grade is C at best"
        )


def _by_group(named: Iterable[tuple[CellSummary, str]]) -> str:
    """Each cell with its words: `resnet50_train small b4 cpu: jax compiled fp32 20 %, ...; ...`."""
    groups: dict[str, list[str]] = {}
    for cell, words in named:
        groups.setdefault(group_name(cell.case), []).append(f"{way_name(cell.case)}{words}")
    return "; ".join(f"{group}: {', '.join(names)}" for group, names in groups.items())


SHOWN = ("ok", "unproven")
"""Statuses whose numbers are shown."""
PARITY_WORDS = {
    FAIL: "different work",
    INHERITED: "inherited parity",
    NOT_COMPARABLE: "different mathematics, not compared",
}


def _parity(summary: RunSummary) -> Iterator[str]:
    """The number of cases with equal work, and each case whose work is not proven equal."""
    measured = [cell for cell in summary.cells if cell.status in SHOWN]
    passed = [cell.parity for cell in measured if cell.parity.status == PASS]
    if passed:
        losses = [one.loss_error for one in passed if one.loss_error is not None]
        worst = f"; losses within {max(losses):.1g}" if any(losses) else ""
        yield (
            f"equal work: {count(len(passed), 'case')} pass: step 1 or the answers of each launch"
            f" match the float64 oracle within the tolerance of the case's precision{worst}"
        )
    for cell in measured:
        if cell.parity.status != PASS:
            word = PARITY_WORDS.get(cell.parity.status, "unproven")
            yield f"{word}: {way_name(cell.case)}: {clean(cell.parity.reason or '')}"


def _differences(summary: RunSummary) -> Iterator[str]:
    """The settings in which cells that are compared with each other differ."""
    families: dict[tuple[str, str, str], list[CellSummary]] = {}
    for cell in summary.cells:
        if cell.status == "ok":
            key = (cell.case.group_id, cell.case.way.precision, cell.case.way.recipe)
            families.setdefault(key, []).append(cell)
    for family in families.values():
        parts = [
            text for one in fields(EffectiveSettings) if (text := _difference(one.name, family))
        ]
        if parts:
            way = family[0].case.way
            which = way.precision + f" {TUNED}" * (way.recipe == TUNED)
            yield f"differences ({which}): {'; '.join(parts)}"


def _difference(name: str, family: Sequence[CellSummary]) -> str | None:
    """The values of one setting, each with the cases that have it; None if all are equal."""
    values: dict[str, list[str]] = {}
    for cell in family:
        value = cell.parity.effective.known().get(name)
        if value is not None:
            values.setdefault(value, []).append(way_name(cell.case, with_precision=False))
    if len(values) < 2:
        return None
    shown = [f"{clean(value)} ({', '.join(cases)})" for value, cases in values.items()]
    return f"{SETTING_WORDS.get(name, name)} = {' | '.join(shown)}"


def _utilisation(summary: RunSummary) -> Iterator[str]:
    """Shares of peaks, workload by workload, with the operations that count as FLOP."""
    for workload in dict.fromkeys(cell.case.work.workload for cell in summary.cells):
        cells = [cell for cell in summary.cells if cell.case.work.workload == workload]
        for peak, shares in (
            (f"share of the roofline, {FASTEST_MATMUL}", [(one, one.mfu_roof) for one in cells]),
            ("MFU, share of the datasheet's dense peak", [(one, one.mfu_spec) for one in cells]),
        ):
            parts = [(one, f" {100 * share:.0f} %") for one, share in shares if share]
            if parts:
                counted = clean(str(parts[0][0].flop_convention))
                yield f"{peak}: {_by_group(parts)}; counted: {counted}"
        faster = [(one, f" {one.above_roof:.2f} times") for one in cells if one.above_roof]
        if faster:
            yield f"no roofline: these cases exceeded {FASTEST_MATMUL}: {_by_group(faster)}"


def _aa(summary: RunSummary) -> Iterator[str]:
    cells = {cell.case.case_id: cell for cell in summary.cells}
    for one in summary.ratios:
        if one.aa and one.ratio:
            interval = with_interval(one.ratio.ratio, one.ratio.low, one.ratio.high)
            name = way_name(cells[one.base].case)
            wide = one.contains_one and (one.ratio.half_width or 0.0) > MARGIN
            words = "contains 1, but is wider than a tie" if wide else AA_WORDS[one.contains_one]
            yield f"A/A, {name} against itself: {interval}, {words}"


def _noise(summary: RunSummary) -> Iterator[str]:
    rounds = summary.rounds
    if not rounds.num_rounds:
        return
    causes = ", ".join(f"{clean(cause)} {num}" for cause, num in rounds.causes.items())
    dropped = f"{rounds.num_dropped} of {count(rounds.num_rounds, 'round')} dropped"
    if rounds.num_kept:
        dropped += f", {rounds.num_kept} disturbed ones kept, since there are too few others"
    share = rounds.max_foreign_cpu_share
    foreign = (
        "" if share is None else f"; other processes took at most {100 * share:.0f} % of the CPUs"
    )
    yield f"noise: {dropped}{f' ({causes})' if causes else ''}{foreign}"


def _machine(machine: Mapping[str, Any]) -> Iterator[str]:
    parts = []
    if machine.get("cpu"):
        parts.append(str(machine["cpu"]))
    if machine.get("num_cores"):
        parts.append(count(int(machine["num_cores"]), "core"))
    if machine.get("memory_bytes"):
        parts.append(f"{machine['memory_bytes'] / GIB:.0f} GiB")
    devices = machine.get("accelerators") or []
    parts += [str(device.get("name")) for device in devices if isinstance(device, Mapping)]
    if machine.get("os"):
        parts.append(f"{machine['os']} {machine.get('kernel') or ''}")
    if machine.get("virtualised"):
        parts.append("virtualised")
    if parts:
        yield clean(f"machine: {', '.join(parts)}")


def _grades(summary: RunSummary) -> Iterator[str]:
    by_reason: dict[str, list[tuple[CellSummary, str]]] = {}
    for cell in summary.cells:
        if cell.grade_reason:
            by_reason.setdefault(cell.grade_reason, []).append((cell, ""))
    for reason, cells in by_reason.items():
        yield f"grade F, {reason}: {_by_group(cells)}"


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
    num_cohorts = effort.num_cohorts + effort.more_cohorts
    yield (
        f"{count(effort.more_cohorts, 'more cohort')} would halve the interval of"
        f" {_by_group([(cell, '')])} (protocol.num_cohorts={num_cohorts})"
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
