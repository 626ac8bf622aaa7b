"""Notes on the work of a run's cases: is it equal, how do they do it, and near which peak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.equal_work import EffectiveSettings
from benchmarks.analysis.summary import RunSummary
from benchmarks.contract.case import TUNED
from benchmarks.contract.evidence import FAIL, INHERITED, NOT_COMPARABLE, PASS
from benchmarks.presentation.wording import clean, count, names_by_group, way_name

FASTEST_MATMUL = "the fastest matmul measured here"
SETTING_WORDS = {
    "integer_products": "convolutions and matmuls in integers",
    "products": "measured matmul precision",
    "computed_in": "matmul dtype",
}
"""The words for settings whose name does not explain them."""
SHOWN = ("ok", "unproven")
"""Statuses whose numbers are shown."""
PARITY_WORDS = {
    FAIL: "different work",
    INHERITED: "inherited parity",
    NOT_COMPARABLE: "different mathematics, not compared",
}


def work_notes(summary: RunSummary) -> Iterator[str]:
    """Parity, differences in settings, and shares of peaks."""
    yield from _parity(summary)
    yield from _differences(summary)
    yield from _utilisation(summary)


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
                yield f"{peak}: {names_by_group(parts)}; counted: {counted}"
        faster = [(one, f" {one.above_roof:.2f} times") for one in cells if one.above_roof]
        if faster:
            yield f"no roofline: these cases exceeded {FASTEST_MATMUL}: {names_by_group(faster)}"
