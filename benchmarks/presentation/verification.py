"""Proofs on the terminal: for each cell the check that used most of its tolerance.

Readable without colour, at 80 columns and in a pipe.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from rich import box  # noqa: TID253 - works with rich; commands import it when they run
from rich.console import Console  # noqa: TID253 - as above
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above

from benchmarks.analysis.equal_work import EffectiveSettings, effective_of
from benchmarks.contract.evidence import FAIL, INHERITED, PASS, SKIP, Check
from benchmarks.documents.parity import ProvenCell
from benchmarks.equivalence.verdict import NAMES, describe
from benchmarks.presentation.wording import by_group, clean, count, group_name, way_name

NONE = "-"
STYLES = {PASS: "green", FAIL: "bold red", INHERITED: "yellow"}
HOW_TO_READ = (
    "how to read: each case made the same steps from the same weights and batches as the float64"
    " oracle; the table shows the check that used most of its tolerance; products: effective"
    " precision of a matmul and a convolution, measured against float64"
)


def render_parity(cells: Sequence[ProvenCell], console: Console) -> None:
    """Print the proofs: a table for each group with its skips, then failures with their causes."""
    for group in by_group(cells):
        console.print(Text(_title(group[0]), style="bold"))
        judged = [cell for cell in group if cell.verdict.status != SKIP]
        if judged:
            console.print(_table(judged))
        for line in _skips(group):
            console.print(Text(line), soft_wrap=True)
        console.print()
    for cell in cells:
        if cell.verdict.status == FAIL:
            for line in _failure(cell):
                console.print(Text(line), soft_wrap=True)
    for note in _notes(cells):
        console.print(Text(note))


def furthest(checks: Iterable[Check]) -> Check | None:
    """The judged check whose error is the largest share of its tolerance; a failure comes first.

    A FLOP count that passes is left out, because it says nothing about exactness.
    """

    def share(check: Check) -> float:
        if check.error is None:
            return math.inf
        assert check.tolerance is not None
        if check.tolerance == 0:
            return math.inf if check.error else 0.0
        return check.error / check.tolerance

    judged = [
        check
        for check in checks
        if check.tolerance is not None and not (check.name == "flop" and check.passes)
    ]
    return max(judged, key=share, default=None)


def _title(cell: ProvenCell) -> str:
    seed = f" seed {cell.case.work.seed}" if cell.case.work.seed else ""
    return f"{group_name(cell.case)}{seed}"


def _table(cells: Sequence[ProvenCell]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
    table.add_column("case", min_width=max(len(way_name(cell.case)) for cell in cells))
    table.add_column("parity", no_wrap=True)
    table.add_column("furthest off")
    for header in ("error", "at most"):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("products", "activations"):
        table.add_column(header)
    for cell in cells:
        check, status = furthest(cell.verdict.checks), cell.verdict.status
        effective = effective_of(cell.evidence, cell.settings)
        table.add_row(
            Text(way_name(cell.case)),
            Text(status, style=STYLES.get(status, "")),
            Text(_what(check)),
            Text(NONE if check is None else _number(check.error)),
            Text(NONE if check is None else _number(check.tolerance)),
            Text(effective.products or NONE),
            Text(_activations(effective)),
        )
    return table


def _what(check: Check | None) -> str:
    return NONE if check is None else NAMES.get(check.name, check.name)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def _activations(effective: EffectiveSettings) -> str:
    parts = (effective.activations, effective.layout)
    return clean(" ".join(part for part in parts if part is not None)) or NONE


def _skips(cells: Iterable[ProvenCell]) -> Iterator[str]:
    """One line for each reason, with the cases that are skipped for it."""
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if cell.verdict.status == SKIP:
            reasons.setdefault(str(cell.verdict.reason), []).append(way_name(cell.case))
    for reason, names in reasons.items():
        yield f"  skipped: {', '.join(names)}: {clean(reason)}"


def _failure(cell: ProvenCell) -> Iterator[str]:
    verdict = cell.verdict
    yield f"FAIL {clean(cell.case.case_id)}"
    failed = [check for check in verdict.checks if not check.passes]
    if not failed or not cell.holders:  # without an oracle of its own, it failed at another size
        yield f"  {clean(str(verdict.reason))}"
    for check in failed:
        yield f"  {clean(describe(check))}"
    if verdict.first_difference:
        yield f"  first to differ: {clean(verdict.first_difference)}"
    for cause in verdict.causes:
        yield f"  likely: {clean(cause)}"
    if cell.log is not None and not verdict.checks:
        yield f"  log: {clean(str(cell.log))}"


def _notes(cells: Sequence[ProvenCell]) -> Iterator[str]:
    statuses = [cell.verdict.status for cell in cells]
    counts = [
        f"{count(statuses.count(status), 'cell')} {word}"
        for status, word in (
            (PASS, "passed"),
            (FAIL, "failed"),
            (INHERITED, "inherited"),
            (SKIP, "skipped"),
        )
        if status in statuses
    ]
    if any(status != SKIP for status in statuses):
        yield HOW_TO_READ
    holders = dict.fromkeys(" and ".join(cell.holders) for cell in cells if cell.holders)
    if holders:
        yield f"oracle: float64 on the CPU, computed by {', '.join(holders)}"
    for cell in cells:
        if cell.verdict.status == INHERITED:
            yield f"inherited: {way_name(cell.case)}: {clean(str(cell.verdict.reason))}"
    yield ", ".join(counts)
