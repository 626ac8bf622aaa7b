"""The metrics: each is one entry, from which columns, numbers, documents and tables are made.

A metric is a number that comes from one launch's record alone. Its source makes a column of the
launch table. Its numbers aggregate that column over a cell's launches: they are `Measured.metrics`,
keys of the `dyno.run/1` document and, if the metric has a heading, a column on the terminal. A new
metric from recorded data is an entry below, or one in an extension folder: `DIR/metrics/<name>.py`
holds `METRICS = (Metric(...),)`.

Other numbers have code of their own, since they need more than one launch's record: step time, rate
and ratios (rounds are dropped for a whole cohort; verdicts depend on intervals), percentiles of
latency (requests are pooled over launches), numbers of rounds and launches, steadiness, flags and
grades, and shares of peaks (the best matmul of all cells).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.tables import COHORT_KEY, LAUNCH_COLUMNS
from benchmarks.contract.record import Record
from benchmarks.errors import UsageError
from benchmarks.statistics.intervals import Interval, log_t_interval

Value = float | Interval | None
Aggregation = Callable[[pd.DataFrame, str], Value]
"""Maps (a cell's rows of the launch table, the metric's column) to the number over its launches."""
Format = Literal["number", "seconds", "gib"]
Better = Literal["higher", "lower"]
Rows = Literal["all", "steps", "requests"]


@dataclass(frozen=True)
class Number:
    """One number of a cell: a metric over the cell's launches."""

    key: str
    """The number's key in the document."""
    over: Aggregation
    mark: str = ""
    """The text behind the number in the table, such as `cold`."""
    has_interval: bool = False
    """Whether `over` gives an Interval; the document then has `<key>_low` and `<key>_high` too."""

    def checked(self, value: Value) -> Value:
        """What `over` gave; None if it is not finite. TypeError if it is of the other kind."""
        if value is None:
            return None
        if isinstance(value, Interval) != self.has_interval:
            expected = "an Interval" if self.has_interval else "a number, without has_interval"
            raise TypeError(f"received {value!r}, expected {expected}")
        if isinstance(value, Interval):
            bounds = (value.estimate, value.low, value.high)
            return value if all(one is None or math.isfinite(one) for one in bounds) else None
        return float(value) if math.isfinite(value) else None

    def in_document(self, value: Value) -> dict[str, float | None]:
        """The number's keys of the document with their values."""
        if not self.has_interval:
            assert not isinstance(value, Interval)
            return {self.key: value}
        assert value is None or isinstance(value, Interval)
        found = (value.estimate, value.low, value.high) if value else (None, None, None)
        return dict(zip((self.key, f"{self.key}_low", f"{self.key}_high"), found, strict=True))


@dataclass(frozen=True)
class Metric:
    """One metric of launches; its name ends with its unit."""

    name: str
    meaning: str
    """The metric's description in the document's schema."""
    unit: str
    source: Callable[[Record], float | None]
    """The number of one launch; None if it has none."""
    numbers: tuple[Number, ...]
    """The numbers over a cell's launches; the table shows the first that is known."""
    heading: str | None = None
    """The heading of its column on the terminal; None if it is in the document only."""
    format: Format = "number"
    better: Better | None = None
    """The direction in which a change is an improvement, if either is."""
    rows: Rows = "all"
    """The tables with its column: all, those of steps, or those of requests timed one by one."""
    is_integer: bool = False

    def of(self, record: Record) -> float:
        """The number of one launch; NaN if there is none, or it is not finite.

        Raises UsageError if the source fails, which may be an extension's.
        """
        try:
            value = self.source(record)
            return math.nan if value is None or not math.isfinite(value) else float(value)
        except Exception as error:
            cause = f"failed on {record.launch_id}: {type(error).__name__}: {error}"
            raise UsageError(f"metric {self.name}: {cause}") from error

    def over(self, own: pd.DataFrame) -> dict[str, Value]:
        """The metric's numbers by their keys, from a cell's rows of the launch table.

        Raises UsageError if an aggregation fails, which may be an extension's.
        """
        found: dict[str, Value] = {}
        for number in self.numbers:
            try:
                value = number.checked(number.over(own, self.name))
            except Exception as error:
                cause = f"{number.key} failed: {type(error).__name__}: {error}"
                raise UsageError(f"metric {self.name}: {cause}") from error
            if self.is_integer and isinstance(value, float):
                value = int(value)
            found[number.key] = value
        return found


def median(own: pd.DataFrame, column: str) -> float | None:
    """The median over all launches."""
    return _median(own[column])


def median_warm(own: pd.DataFrame, column: str) -> float | None:
    """The median over the launches that found a filled compile cache, or use none."""
    return _median(own[~_is_cold(own)][column])


def median_cold(own: pd.DataFrame, column: str) -> float | None:
    """The median over the launches that began with an empty compile cache."""
    return _median(own[_is_cold(own)][column])


def largest(own: pd.DataFrame, column: str) -> float | None:
    """The largest value of any launch."""
    known = own[column].dropna()
    return None if known.empty else float(known.max())


def total(own: pd.DataFrame, column: str) -> float | None:
    """The sum over all launches."""
    known = own[column].dropna()
    return None if known.empty else float(known.sum())


def interval(own: pd.DataFrame, column: str) -> Interval | None:
    """The geometric mean over cohorts with its 95 % confidence interval; values are above 0.

    Launches of one cohort, as the two of a serial one, ran under the same conditions: they are one
    observation.
    """
    known = own.dropna(subset=column).groupby(COHORT_KEY)[column].agg(_geometric_mean).tolist()
    return log_t_interval(known) if known else None


def _is_cold(own: pd.DataFrame) -> pd.Series[bool]:
    return own["cold_cache"] == True  # noqa: E712 - None, if no cache is known, is not cold


def _geometric_mean(values: pd.Series[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _median(values: pd.Series[float]) -> float | None:
    known = values.dropna()
    return None if known.empty else float(known.median())


def _first_answer_s(record: Record) -> float | None:
    """Seconds of export or conversion, loading and the first request; None in training.

    The first request includes its preparation, such as the prompt that it continues. None as well
    if the launch loaded files that an earlier one had exported: an earlier run's seconds, read from
    a cache, would pass for a measurement of this run. So a run that finds every file in the cache
    has no such number; removing `exports` from the cache folder brings it back.
    """
    phases, first_s = record.phases_s, record.evidence.first_step_s
    if "export" not in phases or first_s is None:
        return None
    return phases["export"] + phases.get("load", 0.0) + first_s


METRICS = (
    Metric(
        "first_step_s",
        meaning="the first step, which holds the compilation",
        unit="s",
        source=lambda record: record.first_steps_ns[0] / 1e9 if record.first_steps_ns else None,
        numbers=(
            Number("first_step_s", median_warm),
            Number("first_step_cold_s", median_cold, mark="cold"),
        ),
        heading="first step",
        format="seconds",
        better="lower",
        rows="steps",
    ),
    Metric(
        "export_s",
        meaning="the export or conversion of a model, in the launches that made it",
        unit="s",
        source=lambda record: record.phases_s.get("export"),
        numbers=(Number("export_s", median),),
        better="lower",
    ),
    Metric(
        "first_answer_s",
        meaning="from the weights to the first answer to a request, with the export",
        unit="s",
        source=_first_answer_s,
        numbers=(
            Number("first_answer_s", median_warm),
            Number("first_answer_cold_s", median_cold, mark="cold"),
        ),
        heading="first answer",
        format="seconds",
        better="lower",
        rows="requests",
    ),
    Metric(
        "peak_memory_bytes",
        meaning="the peak of the device's memory, or of the processes'",
        unit="bytes",
        source=lambda record: record.peak_memory_bytes,
        numbers=(Number("peak_memory_bytes", largest),),
        heading="GiB",
        format="gib",
        better="lower",
        is_integer=True,
    ),
)
"""Dyno's own metrics, in the order of their columns."""


def with_extensions(
    found: Iterable[object], *, is_taken: Callable[[str], bool] = lambda key: False
) -> tuple[Metric, ...]:
    """Dyno's metrics and those of extension folders.

    `is_taken` says whether the document has a key for something else. Raises UsageError if an entry
    is no Metric, if a field has a value that it cannot have, or if a name or a key occurs twice.
    """
    metrics = list(METRICS)
    for one in found:
        if not isinstance(one, Metric):
            raise UsageError(f"METRICS of an extension: received {one!r}, expected a Metric")
        _require_usable(one)
        metrics.append(one)
    names = [*LAUNCH_COLUMNS, *(metric.name for metric in metrics)]
    keys = [key for metric in metrics for key in keys_of(metric)]
    for what, given in (("name", names), ("key", keys)):
        taken = sorted(
            one
            for one, num in Counter(given).items()
            if num > 1 or (what == "key" and is_taken(one))
        )
        if taken:
            raise UsageError(f"metrics: the {what} {', '.join(taken)} is taken already")
    return tuple(metrics)


def _require_usable(metric: Metric) -> None:
    """UsageError if a field of an extension's metric has a value that it cannot have."""
    choices = {
        "format": (metric.format, get_args(Format)),
        "better": (metric.better, (*get_args(Better), None)),
        "rows": (metric.rows, get_args(Rows)),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            expected = ", ".join(map(str, allowed))
            raise UsageError(f"metric {metric.name}: {name}={value!r}, expected one of {expected}")
    if not all(isinstance(one, Number) for one in metric.numbers):
        raise UsageError(
            f"metric {metric.name}: numbers={metric.numbers!r}, expected a tuple of Number"
        )


def keys_of(metric: Metric) -> list[str]:
    """The keys that a metric has in the document."""
    return [key for number in metric.numbers for key in number.in_document(None)]
