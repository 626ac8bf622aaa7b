"""Paired comparisons of each case with its base, from their common cohorts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.outcomes import Outcome
from benchmarks.analysis.pairing import Pair, cohort_values, paired_rounds, pairs, serial_values
from benchmarks.analysis.tables import launch_s
from benchmarks.contract.case import Case
from benchmarks.statistics.effort import (
    LaunchValue,
    best_rounds,
    more_launches_to_halve,
    variances,
)
from benchmarks.statistics.intervals import CONFIDENCE, holm
from benchmarks.statistics.looks import level_of_look
from benchmarks.statistics.ratios import (
    MIN_LAUNCHES,
    Ratio,
    RatioVerdict,
    paired_ratio,
    superiority_p_values,
    verdict,
)
from benchmarks.statistics.sharing import Prior, Spread, fit_prior

Resident = Literal["together", "serial"]
"""Whether a cohort's launches are alive together or one after another, as in a record."""


@dataclass(frozen=True)
class Effort:
    """The further measuring that would narrow the interval."""

    more_cohorts: int
    """Further cohorts that would halve the interval, if the spread between launches stays."""
    num_rounds: int | None = None
    """Valid rounds per launch, rounded down; None if no launches were alive together."""
    best_rounds: int | None = None
    """Rounds per launch that give the narrowest interval in the same time."""


@dataclass(frozen=True)
class CaseRatio:
    """A case against its base; an A/A comparison is the base against its own second launch."""

    base: str
    case: str
    aa: bool
    ratio: Ratio | None
    """Of the undisturbed speeds, on which the verdict rests; None if no cohort has a round that is
    valid for both, or the two are not comparable."""
    verdict: RatioVerdict
    effort: Effort | None = None
    resident: Resident | None = None
    """serial if any common cohort was, else together; None if there is no common cohort."""
    experienced: Ratio | None = None
    """Of the speeds as they were on this machine, disturbances included."""
    log_ratios: tuple[float, ...] = ()
    """ln(base's step time / case's), undisturbed, of each cohort."""
    looks: tuple[int, ...] = ()
    """For each of these how often results had been looked at when it was planned, and 1."""
    num_cohorts: int = 0
    """Common cohorts so far, disturbed ones included."""

    @property
    def look(self) -> int:
        """The number of the look at which all of its cohorts were there."""
        return max(self.looks, default=1)

    @property
    def last_look(self) -> int:
        """How often a verdict can have been seen: 0 with too few launches for one."""
        return self.look if len(self.looks) >= MIN_LAUNCHES else 0

    @property
    def contains_one(self) -> bool | None:
        """Whether the interval contains 1, so that both may be equally fast; None without one."""
        if self.ratio is None or self.ratio.low is None or self.ratio.high is None:
            return None
        return self.ratio.low <= 1 <= self.ratio.high


def compare_all(
    bases: Mapping[str, str],
    outcomes: Mapping[str, Outcome],
    blocks: pd.DataFrame,
    *,
    incomparable: Collection[str],
    max_rounds: int,
) -> list[CaseRatio]:
    """The comparison of each ok case with its ok base, each by itself; `judge` gives the verdicts.

    A comparison with one of the `incomparable` case_ids, which do other mathematics than the
    workload's, has no ratio. There is no comparison with a base of another recipe, unless it is the
    case's own idiomatic one.
    """
    compared = []
    for case_id, outcome in outcomes.items():
        base_id = bases.get(case_id, case_id)
        base = outcomes.get(base_id)
        if base is None or not (outcome.is_ok and base.is_ok):
            continue
        if not _is_like_with_like(outcome.cell.case, base.cell.case):
            continue
        aa = base_id == case_id
        found = pairs(base.launches(), outcome.launches(replica=int(aa)))
        if not aa and (case_id in incomparable or base_id in incomparable):
            resident = _resident(found)
            compared.append(
                CaseRatio(base_id, case_id, aa, None, "not_comparable", resident=resident)
            )
        elif found or not aa:
            compared.append(_compare(base_id, case_id, found, blocks, max_rounds))
    return compared


def shared_prior(compared: Iterable[CaseRatio]) -> Prior | None:
    """What the variances of these comparisons have in common; None if there are too few."""
    return fit_prior(
        [
            Spread(one.ratio.log_mean.variance, one.ratio.num_launches - 1)
            for one in compared
            if one.ratio and one.ratio.log_mean.variance is not None
        ]
    )


def judge(compared: Sequence[CaseRatio], prior: Prior | None = None) -> list[CaseRatio]:
    """The comparisons with their verdicts by the numbers alone, and with intervals that share.

    The p-values of the comparisons with one base are adjusted together (Holm). A/A comparisons are
    not among them: they check the machine.
    """
    by_base: dict[str, list[CaseRatio]] = defaultdict(list)
    for one in compared:
        by_base[one.base].append(_with_prior(one, prior))
    return [judged for family in by_base.values() for judged in _judge(family, prior)]


def _with_prior(one: CaseRatio, prior: Prior | None) -> CaseRatio:
    if one.ratio is None or prior is None:
        return one
    return replace(one, ratio=paired_ratio(one.log_ratios, prior=prior))


def _is_like_with_like(case: Case, base: Case) -> bool:
    return base.way.recipe == case.way.recipe or base == case.idiomatic


def _compare(
    base_id: str,
    case_id: str,
    found: Sequence[Pair],
    blocks: pd.DataFrame,
    max_rounds: int,
) -> CaseRatio:
    rounds = paired_rounds(blocks, found)
    together = cohort_values(rounds, found)
    values = [*together, *serial_values(blocks, found)]
    log_ratios = tuple(one.undisturbed.log_ratio for one in values)
    ratio = paired_ratio(log_ratios) if values else None
    cohorts = [one.undisturbed for one in together]
    return CaseRatio(
        base=base_id,
        case=case_id,
        aa=base_id == case_id,
        ratio=ratio,
        verdict="cant_tell",
        effort=_effort(ratio, cohorts, rounds, found, max_rounds) if ratio else None,
        resident=_resident(found),
        experienced=paired_ratio([one.experienced for one in values]) if values else None,
        log_ratios=log_ratios,
        looks=tuple(one.look for one in values),
        num_cohorts=len(found),
    )


def _resident(found: Sequence[Pair]) -> Resident | None:
    if not found:
        return None
    return "serial" if any(pair.is_serial for pair in found) else "together"


def _effort(
    ratio: Ratio,
    cohorts: Sequence[LaunchValue],
    rounds: pd.DataFrame,
    found: Sequence[Pair],
    max_rounds: int,
) -> Effort | None:
    more = more_launches_to_halve(ratio.log_mean)
    if more is None:
        return None
    if not cohorts:
        return Effort(more)
    parts = variances(cohorts)
    together = [pair for pair in found if not pair.is_serial]
    cost_s = sum(launch_s(one) for pair in together for side in pair for one in side)
    round_s = float(rounds["round_s"].mean())
    return Effort(
        more_cohorts=more,
        num_rounds=len(rounds) // len(cohorts),
        best_rounds=parts
        and best_rounds(
            parts, round_s=round_s, launch_s=cost_s / len(together), max_rounds=max_rounds
        ),
    )


def _judge(family: Sequence[CaseRatio], prior: Prior | None) -> list[CaseRatio]:
    """The comparisons with one base, each with its verdict.

    It is that of the first look at which the comparison was decided, as long as all launches
    together still support it: later looks, at stricter levels, need not decide again.
    """
    now = _verdicts(family, level=1 - CONFIDENCE)
    decided: dict[str, RatioVerdict] = {}
    for number in range(1, max((one.look for one in family), default=1) + 1):
        then = [_until(one, number, prior) for one in family]
        for name, said in _verdicts(then, level=level_of_look(number)).items():
            if said == now[name] != "cant_tell":
                decided.setdefault(name, said)
    return [
        replace(one, verdict=decided.get(one.case, "cant_tell")) if one.ratio else one
        for one in family
    ]


def _until(one: CaseRatio, look: int, prior: Prior | None) -> CaseRatio:
    """The comparison as it was at this look."""
    logs = [
        log for log, its_look in zip(one.log_ratios, one.looks, strict=True) if its_look <= look
    ]
    return replace(one, ratio=paired_ratio(logs, prior=prior) if logs else None)


def _verdicts(family: Sequence[CaseRatio], *, level: float) -> dict[str, RatioVerdict]:
    """The verdict at this level of each comparison that has a ratio, by its case_id."""
    tested = [one for one in family if not one.aa and one.ratio is not None]
    p_values = [superiority_p_values(one.ratio).two_sided for one in tested if one.ratio]
    adjusted = {one.case: p for one, p in zip(tested, holm(p_values), strict=True)}
    return {
        one.case: verdict(one.ratio, adjusted_p=adjusted.get(one.case), level=level)
        for one in family
        if one.ratio
    }
