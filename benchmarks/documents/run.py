"""The document of `dyno run --json` and `dyno show --json`.

A missing number is null, never NaN. A cell has the numbers of the metrics, and rate, step time and
latency.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from benchmarks.analysis.cells import CellSummary, Measured
from benchmarks.analysis.equal_work import EffectiveSettings
from benchmarks.analysis.latency import REPORTED, Latency
from benchmarks.analysis.metrics import METRICS, Metric
from benchmarks.analysis.ratios import CaseRatio
from benchmarks.analysis.summary import RunSummary
from benchmarks.analysis.uses import Use
from benchmarks.contract.case import Case
from benchmarks.documents.axes import Axes, axes_of
from benchmarks.documents.encoding import FLAT, flat
from benchmarks.statistics.intervals import Interval
from benchmarks.statistics.percentiles import HIGHEST_OF_LAUNCHES
from benchmarks.statistics.ratios import RatioVerdict

SCHEMA: Literal["dyno.run/1"] = "dyno.run/1"
NOT_ASKED = "not among protocol.percentiles"
EFFECTIVE_KEYS = {"integer_products": "products of integers", "computed_in": "computed in"}
"""The keys of those settings whose key is not their name."""


def _metric_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each number of Dyno's own metrics, by its key."""
    return {
        key: {
            "type": ["integer" if metric.is_integer else "number", "null"],
            "description": "; ".join(
                part
                for part in (
                    metric.meaning,
                    number.mark,
                    f"unit: {metric.unit}",
                    metric.better and f"{metric.better} is better",
                )
                if part
            ),
        }
        for metric in METRICS
        for number in metric.numbers
        for key in number.in_document(None)
    }


def _latency_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each percentile for which every cell has keys, by key."""
    return {
        key: {"type": ["boolean" if key.endswith("_is_bound") else "number", "null"]}
        for percentile in REPORTED
        for key, _ in _percentile(percentile, None, None)
    }


def _percentile(
    percentile: int, interval: Interval | None, bound: float | None
) -> Iterator[tuple[str, float | bool | None]]:
    """The keys of one percentile, in milliseconds; high ones are bounds and have no interval."""
    name = f"latency_p{percentile}"
    yield f"{name}_ms", _ms(bound if interval is None else interval.estimate)
    if percentile <= HIGHEST_OF_LAUNCHES:
        yield f"{name}_low_ms", _ms(interval.low if interval else None)
        yield f"{name}_high_ms", _ms(interval.high if interval else None)
    else:
        yield f"{name}_is_bound", None if bound is None else True


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


PERCENTILE_KEYS = r"^latency_p\d+_((low_|high_)?ms|is_bound)$"


@dataclass(frozen=True)
class RunCell(Axes):
    """One cell of a run."""

    status: str
    reason: str | None
    unit: str | None
    items_per_s: float | None
    items_per_s_low: float | None
    items_per_s_high: float | None
    mean_items_per_s: float | None
    """The rate as it was experienced, disturbances included; `items_per_s` is undisturbed."""
    mean_items_per_s_low: float | None
    mean_items_per_s_high: float | None
    num_launches: int
    num_rounds: int
    num_rounds_invalid: int
    step_s: float | None
    metrics: Mapping[str, float | None] = field(metadata=flat(always=_metric_schemas()))
    """The numbers of Dyno's metrics and of those in extension folders."""
    steady: bool | None
    flags: tuple[str, ...]
    mfu_roof: float | None
    mfu_spec: float | None
    flop_convention: str | None
    grade: Literal["A", "B", "C", "F"] | None
    use: Use | None
    """The use that a reader may make of the numbers; null without any."""
    parity: str
    parity_reason: str | None
    rewrites: str | None
    """The operations that a tuned case rewrites; null for an idiomatic one."""
    has_own_clock: bool
    """Whether the times are the framework's word alone, as those of a simulation."""
    effective: Mapping[str, str]
    percentiles: Mapping[str, float | bool | None] = field(
        metadata=flat(always=_latency_schemas(), pattern=PERCENTILE_KEYS)
    )
    latency_num_samples: int | None
    latency_reasons: Mapping[str, str]


@dataclass(frozen=True)
class RunRatio:
    """A case against its base; in an A/A comparison the base against itself."""

    base: str
    case: str
    aa: bool
    ratio: float | None
    low: float | None
    high: float | None
    num_launches: int
    degrees_of_freedom: float | None
    """What the interval's standard error is worth."""
    look: int
    """How often results had been looked at when the last cohort was planned, and 1."""
    experienced: float | None
    """The ratio of speeds as they were experienced, disturbances included; `ratio` is that of
    undisturbed speeds, on which the verdict rests."""
    experienced_low: float | None
    experienced_high: float | None
    resident: Literal["together", "serial"] | None
    verdict: RatioVerdict


@dataclass(frozen=True)
class RunDocument:
    """A run: every cell of its plan, and the ratios between them.

    `ratios` are those to the base of the group. `costs` are those of libraries to the framework
    that they compute with, if that is not the group's base. `gains` are those of tuned cases to the
    same cases idiomatic; only they compare different recipes. `leads` are those to the fastest case
    with the same base, of cases that may be as fast.
    """

    schema: Literal["dyno.run/1"]
    run_id: str
    created_at: str
    protocol: str
    machine: Mapping[str, Any]
    versions: Mapping[str, Mapping[str, str]]
    """For each measured framework, the versions of Python and of its distributions."""
    cells: tuple[RunCell, ...]
    ratios: tuple[RunRatio, ...]
    costs: tuple[RunRatio, ...]
    gains: tuple[RunRatio, ...]
    leads: tuple[RunRatio, ...]


def document(summary: RunSummary) -> RunDocument:
    """The document of a run."""
    return RunDocument(
        SCHEMA,
        summary.run_id,
        summary.created_at,
        summary.protocol,
        summary.machine,
        {name: one.versions for name, one in summary.interpreters.items()},
        cells=tuple(_cell(cell, summary.metrics) for cell in summary.cells),
        ratios=tuple(_ratio(one) for one in summary.ratios),
        costs=tuple(_ratio(one) for one in summary.costs),
        gains=tuple(_ratio(one) for one in summary.gains),
        leads=tuple(_ratio(one) for one in summary.leads),
    )


def has_key(key: str, cases: Iterable[Case]) -> bool:
    """Whether a cell of these cases has this key for something that is no metric."""
    own = {one.name for one in fields(RunCell) if FLAT not in one.metadata}
    options = {name for case in cases for name in axes_of(case)["options"]}
    return key in own | options or re.match(PERCENTILE_KEYS, key) is not None


def _cell(cell: CellSummary, metrics: tuple[Metric, ...]) -> RunCell:
    measured = cell.measured
    step = measured.step_s if measured else None
    rate = measured.items_per_s if measured else None
    mean = measured.mean_items_per_s if measured else None
    return RunCell(
        **axes_of(cell.case),
        status=cell.status,
        reason=cell.reason,
        unit=cell.unit,
        items_per_s=rate.estimate if rate else None,
        items_per_s_low=rate.low if rate else None,
        items_per_s_high=rate.high if rate else None,
        mean_items_per_s=mean.estimate if mean else None,
        mean_items_per_s_low=mean.low if mean else None,
        mean_items_per_s_high=mean.high if mean else None,
        num_launches=step.num_launches if step else 0,
        num_rounds=measured.num_rounds if measured else 0,
        num_rounds_invalid=measured.num_rounds_invalid if measured else 0,
        step_s=step.estimate if step else None,
        metrics=_numbers(measured, metrics),
        steady=measured.steady if measured else None,
        flags=measured.flags if measured else (),
        mfu_roof=cell.mfu_roof,
        mfu_spec=cell.mfu_spec,
        flop_convention=cell.flop_convention,
        grade=cell.grade,
        use=cell.use,
        parity=cell.parity.status,
        parity_reason=cell.parity.reason,
        rewrites=cell.rewrites,
        has_own_clock=cell.has_own_clock,
        effective=_effective(cell.parity.effective),
        **latency_fields(cell.latency),
    )


def _numbers(measured: Measured | None, metrics: tuple[Metric, ...]) -> dict[str, float | None]:
    return {
        key: value
        for metric in metrics
        for number in metric.numbers
        for key, value in number.in_document(
            measured.metrics[number.key] if measured else None
        ).items()
    }


def _effective(settings: EffectiveSettings) -> dict[str, str]:
    return {EFFECTIVE_KEYS.get(name, name): value for name, value in settings.known().items()}


def latency_fields(latency: Latency | None) -> dict[str, Any]:
    """A cell's fields on the latency of requests, which are null or empty without any."""
    shown = sorted({*REPORTED, *(latency.asked if latency else ())})
    own = latency or Latency(0)
    return {
        "percentiles": {
            key: value
            for one in shown
            for key, value in _percentile(one, own.percentiles.get(one), own.bounds.get(one))
        },
        "latency_num_samples": latency.num_samples if latency else None,
        "latency_reasons": {
            f"p{one}": own.reasons.get(one, NOT_ASKED)
            for one in shown
            if latency and one not in {*own.percentiles, *own.bounds}
        },
    }


def _ratio(one: CaseRatio) -> RunRatio:
    ratio, experienced = one.ratio, one.experienced
    return RunRatio(
        one.base,
        one.case,
        one.aa,
        ratio=ratio.ratio if ratio else None,
        low=ratio.low if ratio else None,
        high=ratio.high if ratio else None,
        num_launches=ratio.num_launches if ratio else 0,
        degrees_of_freedom=ratio.degrees_of_freedom if ratio else None,
        look=one.look,
        experienced=experienced.ratio if experienced else None,
        experienced_low=experienced.low if experienced else None,
        experienced_high=experienced.high if experienced else None,
        resident=one.resident,
        verdict=one.verdict,
    )
