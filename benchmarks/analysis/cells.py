"""One cell of a run: what became of it, its numbers over launches, and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.equal_work import CellParity
from benchmarks.analysis.latency import Latency
from benchmarks.analysis.outcomes import Outcome
from benchmarks.analysis.tables import COHORT_KEY
from benchmarks.contract.case import Case
from benchmarks.statistics.intervals import Interval, log_t_interval

NO_STEADY_STATE = "NO_STEADY_STATE"
SLOWDOWN = "SLOWDOWN"
_TREND_FLAGS = {"slowdown": SLOWDOWN, "no_steady_state": NO_STEADY_STATE}


@dataclass(frozen=True)
class Measured:
    """A cell's numbers over its launches; replicas of an A/A cohort are not among them."""

    step_s: Interval | None
    """Seconds per step over launches, or over cohorts of two if serial; None if no block counts."""
    items_per_step: int
    flop_per_step: int
    first_step_s: float | None
    """Median over the launches that found a filled compile cache, or have none."""
    first_step_cold_s: float | None
    """Median over the launches that compiled from nothing."""
    export_s: float | None
    """Median seconds in which a model was exported or converted; None in training."""
    first_answer_s: float | None
    """Median seconds from the weights to the first answer, as of `first_step_s`; of requests."""
    first_answer_cold_s: float | None
    """The same as of `first_step_cold_s`."""
    peak_memory_bytes: int | None
    """The largest of any launch."""
    num_rounds: int
    num_rounds_invalid: int
    """Rounds in which a declared cause disturbed any launch of the cohort."""
    steady: bool | None
    """False where half of the launches or more were not steady when timing began."""
    flags: tuple[str, ...]
    """Causes and trends seen in its own launches."""

    @property
    def items_per_s(self) -> Interval | None:
        """The rate; its interval is that of the step time, turned over."""
        if self.step_s is None:
            return None
        step, items = self.step_s, self.items_per_step
        low = None if step.high is None else items / step.high
        high = None if step.low is None else items / step.low
        return Interval(items / step.estimate, low, high, step.num_launches)

    @property
    def dropped_share(self) -> float:
        """Share of the rounds that were dropped."""
        return self.num_rounds_invalid / self.num_rounds if self.num_rounds else 0.0

    @property
    def is_flagged(self) -> bool:
        """Whether a launch was not steady, or most became slower."""
        return NO_STEADY_STATE in self.flags or SLOWDOWN in self.flags


@dataclass(frozen=True)
class CellSummary:
    """One cell of the plan."""

    case: Case
    status: str
    reason: str | None
    log: str | None
    """Output of the launch that failed, relative to the store."""
    unit: str | None
    measured: Measured | None
    mfu_roof: float | None
    """Achieved FLOP/s over the best matrix product seen on this device in the precision that is
    computed in; None where work was faster than it, which was no roof then."""
    mfu_spec: float | None
    """Achieved FLOP/s over the dense peak of the device's datasheet, where that is known."""
    above_roof: float | None
    """How many times faster than every such product this case was, where it was."""
    flop_convention: str | None
    """What is counted as FLOP of the model."""
    parity: CellParity
    grade: str | None
    grade_reason: str | None
    """Why the grade is F."""
    latency: Latency | None = None
    """Of requests; None where the work is none of requests, or nothing was timed."""

    def to_json(self) -> dict[str, Any]:
        """The cell of the `dyno.run/1` document; a missing number is null."""
        return {
            "case_id": self.case.case_id,
            **self.case.axes(),
            "status": self.status,
            "reason": self.reason,
            "unit": self.unit,
            **(_NOTHING if self.measured is None else _numbers(self.measured)),
            "mfu_roof": self.mfu_roof,
            "mfu_spec": self.mfu_spec,
            "flop_convention": self.flop_convention,
            "grade": self.grade,
            "parity": self.parity.status,
            "parity_reason": self.parity.reason,
            "effective": {
                EFFECTIVE_KEYS.get(name, name): value
                for name, value in self.parity.effective.known().items()
            },
            **(_NO_LATENCY if self.latency is None else self.latency.to_json()),
        }


def measure(outcome: Outcome, launches: pd.DataFrame) -> Measured | None:
    """The numbers of a cell from its launches in the launch table; None where it has none."""
    own = launches[(launches["case_id"] == outcome.cell.case.case_id) & (launches["replica"] == 0)]
    if own.empty:
        return None
    # The two launches of a serial cohort share its hour: they are one observation.
    steps = own.dropna(subset="step_s").groupby(COHORT_KEY)["step_s"].agg(_geometric_mean).tolist()
    cold = own["cold_cache"] == True  # noqa: E712 - None, where no cache is known, is not cold
    memory = own["peak_memory_bytes"].dropna()
    steady = [value for value in own["steady"] if value is not None]
    return Measured(
        step_s=log_t_interval(steps) if steps else None,
        items_per_step=int(own["items_per_step"].iloc[-1]),
        flop_per_step=int(own["flop_per_step"].iloc[-1]),
        first_step_s=_median(own[~cold]["first_step_s"]),
        first_step_cold_s=_median(own[cold]["first_step_s"]),
        export_s=_median(own["export_s"]),
        first_answer_s=_median(own[~cold]["first_answer_s"]),
        first_answer_cold_s=_median(own[cold]["first_answer_s"]),
        peak_memory_bytes=None if memory.empty else int(memory.max()),
        num_rounds=int(own["num_rounds"].sum()),
        num_rounds_invalid=int(own["num_rounds_invalid"].sum()),
        steady=2 * steady.count(False) < len(steady) if steady else None,
        flags=_flags(own, steady),
    )


def _flags(own: pd.DataFrame, steady: list[Any]) -> tuple[str, ...]:
    flags = {cause for causes in own["causes"] for cause in causes}
    if False in steady:
        flags.add(NO_STEADY_STATE)
    for trend, flag in _TREND_FLAGS.items():
        # One trace in twenty is labelled by chance: half of the launches must show it.
        if 2 * int((own["trend"] == trend).sum()) >= len(own):
            flags.add(flag)
    return tuple(sorted(flags))


def _geometric_mean(values: pd.Series[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _median(values: pd.Series[float]) -> float | None:
    known = values.dropna()
    return None if known.empty else float(known.median())


def _numbers(measured: Measured) -> dict[str, Any]:
    rate, step = measured.items_per_s, measured.step_s
    return {
        "items_per_s": rate.estimate if rate else None,
        "items_per_s_low": rate.low if rate else None,
        "items_per_s_high": rate.high if rate else None,
        "num_launches": step.num_launches if step else 0,
        "num_rounds": measured.num_rounds,
        "num_rounds_invalid": measured.num_rounds_invalid,
        "step_s": step.estimate if step else None,
        "first_step_s": measured.first_step_s,
        "first_step_cold_s": measured.first_step_cold_s,
        "export_s": measured.export_s,
        "first_answer_s": measured.first_answer_s,
        "first_answer_cold_s": measured.first_answer_cold_s,
        "peak_memory_bytes": measured.peak_memory_bytes,
        "steady": measured.steady,
        "flags": list(measured.flags),
    }


EFFECTIVE_KEYS = {"integer_products": "products of integers", "computed_in": "computed in"}
"""The keys of the document that are not the setting's name."""
_NO_LATENCY: Mapping[str, Any] = {
    **dict.fromkeys(Latency(0).to_json()),
    "latency_reasons": {},
}
_NOTHING: Mapping[str, Any] = {
    "items_per_s": None,
    "items_per_s_low": None,
    "items_per_s_high": None,
    "num_launches": 0,
    "num_rounds": 0,
    "num_rounds_invalid": 0,
    "step_s": None,
    "first_step_s": None,
    "first_step_cold_s": None,
    "export_s": None,
    "first_answer_s": None,
    "first_answer_cold_s": None,
    "peak_memory_bytes": None,
    "steady": None,
    "flags": [],
}
