"""One cell of a run: its status, its numbers over launches, and how reliable they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.equal_work import CellParity
from benchmarks.analysis.grades import Grade
from benchmarks.analysis.latency import Latency
from benchmarks.analysis.metrics import Metric, Value, interval
from benchmarks.analysis.outcomes import Outcome
from benchmarks.analysis.uses import Use
from benchmarks.contract.case import Case
from benchmarks.statistics.intervals import Interval

NO_STEADY_STATE = "NO_STEADY_STATE"
SLOWDOWN = "SLOWDOWN"
_TREND_FLAGS = {"slowdown": SLOWDOWN, "no_steady_state": NO_STEADY_STATE}


@dataclass(frozen=True)
class Measured:
    """A cell's numbers over its launches; replicas of an A/A cohort are not among them."""

    step_s: Interval | None
    """Seconds per step over launches, or over serial cohorts, when the machine does not disturb
    them; None if no block is valid."""
    mean_step_s: Interval | None
    """Seconds per step as they were on this machine, disturbances included."""
    items_per_step: int
    flop_per_step: int
    num_rounds: int
    num_rounds_invalid: int
    """Rounds in which a declared cause disturbed any launch of the cohort."""
    num_rounds_disturbed: int
    """Those of them that count all the same, because their group has too few others."""
    steady: bool | None
    """False if half of the launches or more were not steady when timing began."""
    flags: tuple[str, ...]
    """Causes of disturbance and trends in the case's own launches."""
    metrics: Mapping[str, Value]
    """The metrics' numbers by their keys."""

    @property
    def items_per_s(self) -> Interval | None:
        """The undisturbed rate; its confidence interval is that of the step time, inverted."""
        return self._rate(self.step_s)

    @property
    def mean_items_per_s(self) -> Interval | None:
        """The rate as it was experienced on this machine."""
        return self._rate(self.mean_step_s)

    def _rate(self, step: Interval | None) -> Interval | None:
        if step is None:
            return None
        items = self.items_per_step
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
    """Achieved FLOP/s over the roof: the fastest matmul measured on this device, in the precision
    that matmuls are computed in. None if a case exceeded it: there is no roof then."""
    mfu_spec: float | None
    """Achieved FLOP/s over the dense peak of the device's datasheet, if that is known."""
    above_roof: float | None
    """This case's FLOP/s over that matmul's, if it is above 1."""
    flop_convention: str | None
    """The operations that count as FLOP."""
    parity: CellParity
    grade: Grade | None
    grade_reason: str | None
    """Why the grade is F."""
    use: Use | None
    """The use of its numbers; None if they are not shown: there are none, or a launch failed."""
    latency: Latency | None = None
    """The latency of its requests; None in training, and if nothing was timed."""
    rewrites: str | None = None
    """The operations that it rewrites, if its recipe is tuned."""
    has_own_clock: bool = False
    """Whether its times are its framework's word alone: no other clock confirmed them."""

    @property
    def rate(self) -> Interval | None:
        """The undisturbed rate, if there are numbers."""
        return self.measured.items_per_s if self.measured else None


def measure(outcome: Outcome, launches: pd.DataFrame, metrics: Sequence[Metric]) -> Measured | None:
    """The numbers of a cell from its launches in the launch table; None if it has none."""
    own = launches[(launches["case_id"] == outcome.cell.case.case_id) & (launches["replica"] == 0)]
    if own.empty:
        return None
    timed = own[~own["only_prepared"].astype(bool)]
    steady = [value for value in own["steady"] if value is not None]
    return Measured(
        step_s=interval(own, "step_s"),
        mean_step_s=interval(own, "mean_step_s"),
        items_per_step=int(own["items_per_step"].iloc[-1]),
        flop_per_step=int(own["flop_per_step"].iloc[-1]),
        num_rounds=int(own["num_rounds"].sum()),
        num_rounds_invalid=int(own["num_rounds_invalid"].sum()),
        num_rounds_disturbed=int(own["num_rounds_disturbed"].sum()),
        steady=2 * steady.count(False) < len(steady) if steady else None,
        flags=_flags(timed, steady),
        metrics={key: one for metric in metrics for key, one in metric.over(own).items()},
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
