"""The rounds of a run, and what disturbed them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd  # noqa: TID253 - works on the tables; commands import it when they run

from benchmarks.analysis.tables import ROUND_KEY, RoundKey, causes_of, round_of
from benchmarks.contract.record import Record


@dataclass(frozen=True)
class Rounds:
    """The rounds of a run's cohorts, and their disturbances."""

    num_rounds: int
    num_again: int
    """Rounds in which a turn was disturbed and taken again."""
    num_in_part: int
    """Rounds in which a turn counts without some of its samples."""
    num_dropped: int
    """Rounds that are valid for no pair."""
    num_kept: int
    """Disturbed rounds that still count, because their group has too few others."""
    causes: dict[str, int]
    """For each declared cause, the number of rounds with it."""
    max_foreign_cpu_share: float | None
    """The largest share of the CPUs that other processes took in a turn."""


def rounds_of(records: Sequence[Record], blocks: pd.DataFrame) -> Rounds:
    """The rounds of whole cohorts; `blocks` is their block table."""
    causes_by_round: dict[RoundKey, set[str]] = {}
    again, in_part = set(), set()
    shares = []
    for record in records:
        taken = Counter(block.round for block in record.blocks)
        for block in record.blocks:
            key = round_of(record, block)
            causes_by_round.setdefault(key, set()).update(causes_of(block))
            if taken[block.round] > 1:
                again.add(key)
            if block.disturbed_samples and not block.is_disturbed:
                in_part.add(key)
            if block.foreign_cpu_share is not None:
                shares.append(block.foreign_cpu_share)
    counts = Counter(cause for causes in causes_by_round.values() for cause in causes)
    rounds = blocks.drop_duplicates(ROUND_KEY)
    return Rounds(
        num_rounds=len(causes_by_round),
        num_again=len(again),
        num_in_part=len(in_part),
        num_dropped=int(rounds["round_dropped"].sum()),
        num_kept=int((rounds["round_disturbed"] & ~rounds["round_dropped"].astype(bool)).sum()),
        causes=dict(sorted(counts.items())),
        max_foreign_cpu_share=max(shares, default=None),
    )
