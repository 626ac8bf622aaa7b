"""Cases against their counterparts: what a library costs, and what tuning gains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.outcomes import Outcome
from benchmarks.analysis.ratios import CaseRatio, compare_all
from benchmarks.contract.case import Case


def counterpart_ratios(
    counterpart: Callable[[Case], Case | None],
    bases: Mapping[str, str],
    outcomes: Mapping[str, Outcome],
    blocks: pd.DataFrame,
    *,
    incomparable: Collection[str],
    max_rounds: int,
) -> list[CaseRatio]:
    """The comparisons of cases with their counterpart: for each the function's one of a case.

    They come from the cohorts that both took part in, each by itself (`ratios.judge`). `bases` are
    those of the groups: a case whose counterpart is its base is compared with it already, and is
    left out here.
    """
    own = {}
    for case_id, outcome in outcomes.items():
        other = counterpart(outcome.cell.case)
        if other and other.case_id in outcomes and other.case_id != bases.get(case_id):
            own[case_id] = other.case_id
    concerned = {name: outcomes[name] for name in (*own.values(), *own)}
    found = compare_all(own, concerned, blocks, incomparable=incomparable, max_rounds=max_rounds)
    return [one for one in found if not one.aa]
