"""Computes the log-ratios of the cohorts that a case shares with its base: one list a cohort.

Launches that were alive together are paired round by round. Serial launches have no common round:
they give their cohort one value, in which a drift that is linear in time cancels (A B B A) except
over half the difference of their start-up times: if the machine drifts by 1 % a minute and one
compiles for a minute more, 0.5 % remain (2 % is a tie).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.tables import LAUNCH_KEY, ROUND_KEY
from benchmarks.contract.record import LAUNCHES_PER_CASE, SERIAL, Record
from benchmarks.statistics.ratios import trimmed_mean


class Pair(NamedTuple):
    """The launches of a base and of a case in one cohort: one of each, or two if serial."""

    base: tuple[Record, ...]
    case: tuple[Record, ...]

    @property
    def is_serial(self) -> bool:
        """Whether they ran one after another."""
        return self.base[0].resident == SERIAL


def pairs(base: Sequence[Record], case: Sequence[Record]) -> list[Pair]:
    """The cohorts with every launch of both, oldest first; repeated launches replace earlier ones.

    A serial cohort that lacks one of its four launches is left out: a drift would not cancel in it.
    """
    of_base, of_case = _whole(base), _whole(case)
    return [Pair(of_base[cohort], of_case[cohort]) for cohort in of_base if cohort in of_case]


def paired_rounds(blocks: pd.DataFrame, found: Sequence[Pair]) -> pd.DataFrame:
    """The rounds that are valid for both, with ln(base's step time / case's) and their seconds."""
    valid = blocks[~blocks["round_dropped"].astype(bool)]
    base = _of(valid, [record for pair in found for record in pair.base])
    case = _of(valid, [record for pair in found for record in pair.case])
    rounds = base.merge(case, on=ROUND_KEY, suffixes=("_base", "_case"))
    rounds["log_ratio"] = np.log(rounds["step_s_base"] / rounds["step_s_case"])
    rounds["round_s"] = sum(
        rounds[f"step_s_{side}"] * rounds[f"num_steps_{side}"] for side in ("base", "case")
    )
    return rounds


def serial_log_ratios(blocks: pd.DataFrame, found: Sequence[Pair]) -> list[float]:
    """ln(base's step time / case's) of each serial cohort in which every launch has a valid round.

    A launch's value is the trimmed mean over its valid rounds, a side's the mean of its launches.
    """
    serial = [pair for pair in found if pair.is_serial]
    valid = blocks[~blocks["round_dropped"].astype(bool)]
    own = _of(valid, [record for pair in serial for side in pair for record in side])
    groups = own.groupby(LAUNCH_KEY)["step_s"]
    logs = {launch: trimmed_mean(np.log(step_s).tolist()) for launch, step_s in groups}
    sides = [(_mean_log(pair.base, logs), _mean_log(pair.case, logs)) for pair in serial]
    return [base - case for base, case in sides if base is not None and case is not None]


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
    launches: Sequence[Record], logs: Mapping[tuple[Hashable, ...], float]
) -> float | None:
    """The mean over launches; None if one of them has no valid round."""
    found = [logs[_key(record)] for record in launches if _key(record) in logs]
    return sum(found) / len(found) if len(found) == len(launches) else None


def _key(record: Record) -> tuple[str, str, str]:
    return (record.run_id, record.cohort_id, record.launch_id)
