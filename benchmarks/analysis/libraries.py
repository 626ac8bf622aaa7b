"""What libraries cost: each compared with the framework that it computes with."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.outcomes import Outcome
from benchmarks.analysis.ratios import CaseRatio, compare_all


def library_costs(
    bases: Mapping[str, str],
    outcomes: Mapping[str, Outcome],
    blocks: pd.DataFrame,
    *,
    incomparable: Collection[str],
    max_rounds: int,
) -> list[CaseRatio]:
    """The comparisons of libraries with the same case of what they compute with.

    They come from the cohorts that both took part in; the p-values of the libraries on one case are
    adjusted together (Holm). `bases` are those of the groups: a library whose base is the group's
    is compared with it already, and is left out here.
    """
    own = {}
    for case_id, outcome in outcomes.items():
        on_base = outcome.cell.case.on_base
        if on_base and on_base.case_id in outcomes and on_base.case_id != bases.get(case_id):
            own[case_id] = on_base.case_id
    concerned = {name: outcomes[name] for name in (*own.values(), *own)}
    found = compare_all(own, concerned, blocks, incomparable=incomparable, max_rounds=max_rounds)
    return [one for one in found if not one.aa]
