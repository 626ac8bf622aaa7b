"""Computes the log-ratios of the cohorts that a case shares with its base: one list a cohort.

Launches that were alive together are paired round by round. Serial launches have no common round:
they give their cohort one value, in which a drift that is linear in time cancels (A B B A) except
over half the difference of their start-up times: if the machine drifts by 1 % a minute and one
compiles for a minute more, 0.5 % remain (2 % is a tie).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.tables import COHORT_KEY, LAUNCH_KEY, ROUND_KEY
from benchmarks.contract.record import LAUNCHES_PER_CASE, SERIAL, Record
from benchmarks.statistics.effort import LaunchValue, within_variance
from benchmarks.statistics.launch_ratio import (
    experienced_log_ratio,
    hodges_lehmann,
    undisturbed,
    undisturbed_log_ratio,
)


class Pair(NamedTuple):
    """The launches of a base and of a case in one cohort: one of each, or two if serial."""

    base: tuple[Record, ...]
    case: tuple[Record, ...]

    @property
    def is_serial(self) -> bool:
        """Whether they ran one after another."""
        return self.base[0].resident == SERIAL

    @property
    def look(self) -> int:
        """The look of their cohort, as in a record."""
        return max(record.look for side in self for record in side)


class CohortValue(NamedTuple):
    """ln(base's step time / case's) of one cohort, in two ways that are never mixed."""

    undisturbed: LaunchValue
    """When the machine disturbs neither: this is what is compared."""
    experienced: float
    """As it was on this machine, from the mean of each turn."""
    look: int
    """How often results had been looked at when the cohort was planned, and 1."""


def pairs(base: Sequence[Record], case: Sequence[Record]) -> list[Pair]:
    """The cohorts with every launch of both, oldest first; repeated launches replace earlier ones.

    A serial cohort that lacks one of its four launches is left out: a drift would not cancel in it.
    """
    of_base, of_case = _whole(base), _whole(case)
    return [Pair(of_base[cohort], of_case[cohort]) for cohort in of_base if cohort in of_case]


def paired_rounds(blocks: pd.DataFrame, found: Sequence[Pair]) -> pd.DataFrame:
    """The rounds that are valid for both, with the times, samples and seconds of both turns."""
    valid = blocks[~blocks["round_dropped"].astype(bool)]
    base = _of(valid, [record for pair in found for record in pair.base])
    case = _of(valid, [record for pair in found for record in pair.case])
    rounds = base.merge(case, on=ROUND_KEY, suffixes=("_base", "_case"))
    rounds["round_s"] = sum(
        rounds[f"step_s_{side}"] * rounds[f"num_steps_{side}"] for side in ("base", "case")
    )
    return rounds


def cohort_values(rounds: pd.DataFrame, found: Sequence[Pair]) -> list[CohortValue]:
    """The values of each cohort in which both were alive together, from `paired_rounds`."""
    looks: dict[Hashable, int] = {_key(pair.case[0])[:2]: pair.look for pair in found}
    return [_cohort_value(cohort, looks[key]) for key, cohort in rounds.groupby(COHORT_KEY)]


def serial_values(blocks: pd.DataFrame, found: Sequence[Pair]) -> list[CohortValue]:
    """The values of each serial cohort in which every launch has a valid round.

    A side's logarithm is the mean over its launches.
    """
    serial = [pair for pair in found if pair.is_serial]
    valid = blocks[~blocks["round_dropped"].astype(bool)]
    own = _of(valid, [record for pair in serial for side in pair for record in side])
    logs = {
        launch: (
            math.log(undisturbed(np.concatenate(group["samples_s"].tolist()))),
            hodges_lehmann(np.log(group["step_s"]).tolist()),
        )
        for launch, group in own.groupby(LAUNCH_KEY)
    }
    sides = [(_mean_log(pair.base, logs), _mean_log(pair.case, logs), pair.look) for pair in serial]
    return [
        CohortValue(LaunchValue(base[0] - case[0], None, 1), base[1] - case[1], look)
        for base, case, look in sides
        if base is not None and case is not None
    ]


def _cohort_value(rounds: pd.DataFrame, look: int) -> CohortValue:
    base, case = (rounds[f"samples_s_{side}"].tolist() for side in ("base", "case"))
    return CohortValue(
        LaunchValue(
            log_ratio=undisturbed_log_ratio(base, case),
            within=within_variance(base, case, log_ratio=undisturbed_log_ratio),
            num_rounds=len(rounds),
        ),
        experienced=experienced_log_ratio(
            rounds["step_s_base"].tolist(), rounds["step_s_case"].tolist()
        ),
        look=look,
    )


def _whole(records: Sequence[Record]) -> dict[tuple[str, str], tuple[Record, ...]]:
    """The launches of each cohort in which this case has all of its launches."""
    by_cohort: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        by_cohort[record.run_id, record.cohort_id].append(record)
    whole = {}
    for cohort, launches in by_cohort.items():
        num = LAUNCHES_PER_CASE[launches[-1].resident]
        if len(launches) >= num:
            whole[cohort] = tuple(launches[-num:])
    return whole


def _of(blocks: pd.DataFrame, records: Sequence[Record]) -> pd.DataFrame:
    keys = pd.MultiIndex.from_tuples([_key(record) for record in records], names=LAUNCH_KEY)
    return blocks[pd.MultiIndex.from_frame(blocks[LAUNCH_KEY]).isin(keys)]


def _mean_log(
    launches: Sequence[Record], logs: Mapping[tuple[Hashable, ...], tuple[float, float]]
) -> tuple[float, float] | None:
    """The means over launches of both logarithms; None if one of them has no valid round."""
    found = [logs[_key(record)] for record in launches if _key(record) in logs]
    if len(found) < len(launches):
        return None
    undisturbed_logs, experienced_logs = zip(*found, strict=True)
    return fmean(undisturbed_logs), fmean(experienced_logs)


def _key(record: Record) -> tuple[str, str, str]:
    return (record.run_id, record.cohort_id, record.launch_id)
