"""Paired comparisons of each case with its base, from the cohorts that both took part in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.standing import Standing
from benchmarks.analysis.tables import LAUNCH_KEY, ROUND_KEY, launch_s
from benchmarks.contract.record import Record
from benchmarks.statistics.intervals import holm
from benchmarks.statistics.planning_effort import best_rounds, more_launches_to_halve, variances
from benchmarks.statistics.ratios import Ratio, paired_ratio, superiority_p_values, verdict


@dataclass(frozen=True)
class Effort:
    """What would narrow the interval."""

    more_cohorts: int
    """Cohorts that would halve it, if the spread between launches stays as it is."""
    num_rounds: int
    """Rounds per launch that count, rounded down."""
    best_rounds: int | None
    """Rounds per launch that would be the best use of the time."""


@dataclass(frozen=True)
class Comparison:
    """A case against its base; an A/A comparison is the base against its own second launch."""

    base: str
    case: str
    aa: bool
    ratio: Ratio | None
    """None where no cohort left a round in which both count."""
    verdict: str
    effort: Effort | None = None

    def to_json(self) -> dict[str, Any]:
        """The row of the `dyno.run/1` document."""
        ratio = self.ratio
        return {
            "base": self.base,
            "case": self.case,
            "aa": self.aa,
            "ratio": ratio.ratio if ratio else None,
            "low": ratio.low if ratio else None,
            "high": ratio.high if ratio else None,
            "num_launches": ratio.num_launches if ratio else 0,
            "verdict": self.verdict,
        }

    @property
    def contains_one(self) -> bool | None:
        """Whether the interval allows that both are equally fast; None without an interval."""
        if self.ratio is None or self.ratio.low is None or self.ratio.high is None:
            return None
        return self.ratio.low <= 1 <= self.ratio.high


def compare_all(
    bases: Mapping[str, str],
    standings: Mapping[str, Standing],
    blocks: pd.DataFrame,
    *,
    max_rounds: int,
) -> list[Comparison]:
    """Every comparison that two cells which are ok allow, with its verdict by the numbers alone.

    The p-values of the comparisons with one base are adjusted together (Holm); A/A comparisons
    are checks of the machine and not among them.
    """
    by_base: dict[str, list[Comparison]] = defaultdict(list)
    for case_id, standing in standings.items():
        base_id = bases.get(case_id, case_id)
        base = standings.get(base_id)
        if base is None or not (standing.is_ok and base.is_ok):
            continue
        aa = base_id == case_id
        pair = _shared(base.launches(), standing.launches(replica=int(aa)))
        if pair or not aa:
            by_base[base_id].append(_compare(base_id, case_id, pair, blocks, max_rounds))
    return [judged for family in by_base.values() for judged in _judge(family)]


def _shared(base: Sequence[Record], case: Sequence[Record]) -> list[tuple[Record, Record]]:
    """The launches of both that were alive together; of repeated attempts the last."""
    of_base = {(record.run_id, record.cohort_id): record for record in base}
    of_case = {(record.run_id, record.cohort_id): record for record in case}
    return [(of_base[cohort], of_case[cohort]) for cohort in of_base if cohort in of_case]


def _compare(
    base_id: str,
    case_id: str,
    pairs: Sequence[tuple[Record, Record]],
    blocks: pd.DataFrame,
    max_rounds: int,
) -> Comparison:
    rounds = _paired_rounds(blocks, pairs)
    cohorts = [group.tolist() for _, group in rounds.groupby(ROUND_KEY[:2])["log_ratio"]]
    ratio = paired_ratio(cohorts) if cohorts else None
    effort = _effort(ratio, cohorts, rounds, pairs, max_rounds) if ratio else None
    return Comparison(base_id, case_id, base_id == case_id, ratio, "cant_tell", effort)


def _paired_rounds(blocks: pd.DataFrame, pairs: Sequence[tuple[Record, Record]]) -> pd.DataFrame:
    """The rounds that count for both: ln(base's step time / case's), and the seconds of both."""
    valid = blocks[~blocks["round_dropped"].astype(bool)]
    base = _of(valid, [base for base, _ in pairs])
    case = _of(valid, [case for _, case in pairs])
    rounds = base.merge(case, on=ROUND_KEY, suffixes=("_base", "_case"))
    rounds["log_ratio"] = np.log(rounds["step_s_base"] / rounds["step_s_case"])
    rounds["round_s"] = sum(
        rounds[f"step_s_{side}"] * rounds[f"num_steps_{side}"] for side in ("base", "case")
    )
    return rounds


def _of(blocks: pd.DataFrame, records: Sequence[Record]) -> pd.DataFrame:
    keys = pd.MultiIndex.from_tuples(
        [(r.run_id, r.cohort_id, r.launch_id) for r in records], names=LAUNCH_KEY
    )
    return blocks[pd.MultiIndex.from_frame(blocks[LAUNCH_KEY]).isin(keys)]


def _effort(
    ratio: Ratio,
    cohorts: Sequence[Sequence[float]],
    rounds: pd.DataFrame,
    pairs: Sequence[tuple[Record, Record]],
    max_rounds: int,
) -> Effort | None:
    more = more_launches_to_halve(ratio.log_mean)
    if more is None:
        return None
    parts = variances(cohorts)
    cost_s = sum(launch_s(base) + launch_s(case) for base, case in pairs) / len(pairs)
    round_s = float(rounds["round_s"].mean())
    return Effort(
        more_cohorts=more,
        num_rounds=len(rounds) // len(cohorts),
        best_rounds=parts
        and best_rounds(parts, round_s=round_s, launch_s=cost_s, max_rounds=max_rounds),
    )


def _judge(family: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with one base, each with its verdict."""
    tested = [one for one in family if not one.aa and one.ratio is not None]
    p_values = [superiority_p_values(one.ratio).two_sided for one in tested if one.ratio]
    adjusted = {one.case: p for one, p in zip(tested, holm(p_values), strict=True)}
    judged = []
    for one in family:
        said = verdict(one.ratio, adjusted_p=adjusted.get(one.case)) if one.ratio else "cant_tell"
        judged.append(Comparison(one.base, one.case, one.aa, one.ratio, said, one.effort))
    return judged
