"""The entries of a table of measurements: what each column says of one case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from rich.text import Text  # noqa: TID253 - works with rich; commands import it when they run

from benchmarks.analysis.cells import CellSummary
from benchmarks.analysis.equal_work import computed_in
from benchmarks.analysis.metrics import Format, Metric
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.contract.case import TUNED
from benchmarks.contract.precision import PRECISIONS, like, products_of
from benchmarks.presentation.verdicts import VERDICTS, symbol, verdict_text
from benchmarks.presentation.wording import clean, gib, plain, seconds, way_name, with_interval
from benchmarks.statistics.intervals import Interval

NONE = "-"
NO_OTHER_TUNED = "no other tuned"
"""In place of a ratio: no case of the group has the same recipe and precision."""
FORMATS: Mapping[Format, Callable[[float], str]] = {
    "number": plain,
    "seconds": seconds,
    "gib": gib,
}
"""How a metric's number is written, if it has no interval."""


class Layout(NamedTuple):
    """What a table shows, and where."""

    has_metrics: bool = False
    has_means: bool = False
    has_words: bool = True
    """Whether a verdict is a symbol with words, or the symbol alone."""
    beneath: Literal["nothing", "speeds", "all"] = "nothing"
    """The intervals that are put beneath their estimates."""


class View(NamedTuple):
    """The common inputs of the tables of all groups."""

    width: int
    is_ascii: bool
    """Whether the console can print no other characters."""
    ratios: dict[str, CaseRatio]
    """The comparison of each case with its base."""
    metrics: tuple[Metric, ...]


def case_name(cell: CellSummary, *, with_precision: bool) -> str:
    """The case's way, with the precision that really ran if it is another one."""
    return f"{way_name(cell.case, with_precision=with_precision)}{_real_precision(cell)}"


def _real_precision(cell: CellSummary) -> str:
    """`, in fp32` if matmuls were computed in another precision than that of the case's name.

    An example is bf16 on a CPU without bf16 units: operands are rounded, then multiplied in fp32.
    The precision of an adapter's own matmul says nothing about a quantised model.
    """
    asked = products_of(cell.case.way.precision)
    if PRECISIONS[asked].is_quantised:
        return ""
    effective = cell.parity.effective
    seen = effective.products
    if seen and seen not in (asked, like(asked)):
        return f", like {clean(seen)}"
    real = computed_in(effective, asked)
    return "" if real == asked else f", in {real}"


def num_launches(cell: CellSummary, view: View) -> str:
    """The launches behind the ratio that it stands beside; without a ratio, the rate's."""
    comparison = view.ratios.get(cell.case.case_id)
    behind = (comparison.ratio if comparison else None) or cell.rate
    return str(behind.num_launches) if behind else NONE


def latency(cell: CellSummary, percentile: int, view: View, layout: Layout) -> Text:
    """A percentile in milliseconds with its interval, or an upper bound that is marked as one."""
    assert cell.latency is not None
    bound = cell.latency.bounds.get(percentile)
    if bound is not None:
        at_most = "<=" if view.is_ascii else "≤"
        return Text(f"{at_most} {with_interval(1e3 * bound, None, None)}")
    found = cell.latency.percentiles.get(percentile)
    return interval(found and found.scaled(1e3), layout)


def interval(value: Interval | None, layout: Layout) -> Text:
    """`123 [120, 127]`, or on two lines if the table is too wide for it."""
    if value is None:
        return Text(NONE)
    separator = " " if layout.beneath == "nothing" else "\n"
    return Text(with_interval(value.estimate, value.low, value.high, separator=separator))


def against_base(cell: CellSummary, view: View, layout: Layout) -> Text:
    """`1.32 [1.28, 1.36] ^ faster`, or on two lines if the table is too wide for it."""
    name = cell.case.case_id
    one = view.ratios.get(name)
    if one is None and cell.status == "unproven":
        unproven = verdict_text("unproven", ascii_only=view.is_ascii)
        return Text(unproven, style=VERDICTS["unproven"].style)
    if one is None:
        is_alone = cell.case.way.recipe == TUNED and not any(
            r.base == name for r in view.ratios.values()
        )
        return Text(NO_OTHER_TUNED if is_alone else "base")
    has_words = layout.has_words or one.ratio is None
    text = (verdict_text if has_words else symbol)(one.verdict, ascii_only=view.is_ascii)
    verdict = Text(text, style=VERDICTS[one.verdict].style)
    if one.ratio is None:
        return verdict
    separator = "\n" if layout.beneath == "all" else " "
    shown = with_interval(one.ratio.ratio, one.ratio.low, one.ratio.high, separator=separator)
    estimate, beneath, bounds = shown.partition("\n")
    return Text.assemble(estimate, " ", verdict, beneath, bounds)


def metric_number(metric: Metric, cell: CellSummary) -> Text:
    """The first number of a metric that is known, with its mark."""
    for number in metric.numbers:
        value = cell.measured.metrics[number.key] if cell.measured else None
        if isinstance(value, Interval):
            return Text(with_interval(value.estimate, value.low, value.high))
        if value is not None:
            mark = f" {clean(number.mark)}" if number.mark else ""
            return Text(f"{FORMATS[metric.format](value)}{mark}")
    return Text(NONE)
