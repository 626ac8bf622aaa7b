"""Tidy tables of blocks and of launches.

Each row is one observation, each column's name ends with its unit, a missing number is NaN.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd  # noqa: TID253 - this module is the tables; commands import it when they run

from benchmarks.contract.record import INVALIDATING_FLAGS, SERIAL, Block, Record
from benchmarks.statistics.launch_ratio import undisturbed
from benchmarks.statistics.steady import classify

RoundKey = tuple[str, str, str, int]
"""Run, cohort, launch (empty unless it is serial: then its rounds are its own), and round."""

MIN_ROUNDS_LEFT = 3
"""Undisturbed rounds with which a cohort counts. A declared cause says nothing about a round's
times, so that what is left is as good as if there had been no other rounds."""

COHORT_KEY = ["run_id", "cohort_id"]
LAUNCH_KEY = [*COHORT_KEY, "launch_id"]
ROUND_KEY = [*COHORT_KEY, "serial_launch_id", "round"]
BLOCK_COLUMNS = [
    *LAUNCH_KEY,
    "serial_launch_id",
    "case_id",
    "replica",
    "round",
    "order",
    "num_steps",
    "step_s",
    "samples_s",
    "opening_fence_s",
    "foreign_cpu_share",
    "causes",
    "round_disturbed",
    "round_dropped",
]
LAUNCH_COLUMNS = [
    *LAUNCH_KEY,
    "case_id",
    "replica",
    "started_at",
    "step_s",
    "mean_step_s",
    "items_per_step",
    "flop_per_step",
    "num_rounds",
    "num_rounds_invalid",
    "num_rounds_disturbed",
    "causes",
    "cold_cache",
    "only_prepared",
    "steady",
    "trend",
    "launch_s",
]


def block_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row for the block of each turn that counts (`Record.turns`).

    `causes` holds the block's own invalidating flags. `round_disturbed` is true if any launch of
    the cohort had one in this round; a serial launch's rounds are its own, under its id. A
    disturbed round is valid for no pair: it is `round_dropped`. If this leaves fewer than
    MIN_ROUNDS_LEFT of a cohort's rounds, or of one of its serial launches', the whole cohort is
    dropped. If it leaves no cohort of a group, all of its rounds are kept, which withdraws the
    verdicts (`round_disturbed` and not `round_dropped`).
    """
    disturbed = _disturbed_rounds(records)
    dropped = _dropped_rounds(records, disturbed)
    rows = [
        {
            **_identity(record),
            "serial_launch_id": _serial_launch_id(record),
            "round": block.round,
            "order": block.order,
            "num_steps": block.num_steps,
            "step_s": block.step_s,
            "samples_s": block.samples_s,
            "opening_fence_s": block.opening_fence_ns / 1e9,
            "foreign_cpu_share": _or_nan(block.foreign_cpu_share),
            "causes": causes_of(block),
            "round_disturbed": round_of(record, block) in disturbed,
            "round_dropped": round_of(record, block) in dropped,
        }
        for record in records
        for block in record.turns
    ]
    return pd.DataFrame(rows, columns=BLOCK_COLUMNS)


def _disturbed_rounds(records: Sequence[Record]) -> set[RoundKey]:
    return {
        round_of(record, block) for record in records for block in record.turns if causes_of(block)
    }


def _dropped_rounds(records: Sequence[Record], disturbed: set[RoundKey]) -> set[RoundKey]:
    """The rounds that are valid for no pair; see `block_frame`."""
    group_of = {
        round_of(record, block): record.case.group_id
        for record in records
        for block in record.turns
    }
    num_rounds = Counter(key[:3] for key in group_of)
    num_disturbed = Counter(key[:3] for key in disturbed)
    noisy = {
        key[:2]
        for key, num in num_rounds.items()
        if num - num_disturbed[key] < min(MIN_ROUNDS_LEFT, num)
    }
    groups_with_calm = {group for key, group in group_of.items() if key[:2] not in noisy}
    return {
        key
        for key, group in group_of.items()
        if group in groups_with_calm and (key in disturbed or key[:2] in noisy)
    }


def round_of(record: Record, block: Block) -> RoundKey:
    """The key that the blocks of one round have in common."""
    return (record.run_id, record.cohort_id, _serial_launch_id(record), block.round)


def _serial_launch_id(record: Record) -> str:
    return record.launch_id if record.resident == SERIAL else ""


def launch_frame(
    records: Iterable[Record],
    blocks: pd.DataFrame,
    columns: Mapping[str, Callable[[Record], float]],
) -> pd.DataFrame:
    """One row for each launch; `blocks` holds the blocks of whole cohorts.

    `columns` maps the names of further columns (the metrics') to functions of a record. `step_s` is
    the undisturbed step time (`statistics.launch_ratio`) of the turns without an invalidating flag
    of their own: another launch's disturbed turn invalidates pairs, not this launch's rate.
    `mean_step_s` is the mean over all turns.
    """
    groups = blocks.groupby(LAUNCH_KEY)[["round_disturbed", "round_dropped"]]
    rounds = dict(iter(groups))
    rows = [
        {
            **_launch_row(record, rounds.get(_launch_key(record))),
            **{name: value_of(record) for name, value_of in columns.items()},
        }
        for record in records
    ]
    return pd.DataFrame(rows, columns=[*LAUNCH_COLUMNS, *columns])


def _launch_key(record: Record) -> tuple[str, str, str]:
    return (record.run_id, record.cohort_id, record.launch_id)


def _launch_row(record: Record, rounds: pd.DataFrame | None) -> dict[str, Any]:
    steps, samples = record.step_seconds, record.sample_seconds
    disturbed = [] if rounds is None else rounds["round_disturbed"].astype(bool).tolist()
    dropped = [] if rounds is None else rounds["round_dropped"].astype(bool).tolist()
    kept = [not one for one in dropped]
    return {
        **_identity(record),
        "started_at": record.started_at,
        "step_s": undisturbed(samples) if samples else math.nan,
        "mean_step_s": record.mean_step_s or math.nan,
        "items_per_step": record.items_per_step,
        "flop_per_step": record.flop_per_step,
        "num_rounds": len(disturbed),
        "num_rounds_invalid": sum(disturbed),
        "num_rounds_disturbed": sum(d and k for d, k in zip(disturbed, kept, strict=True)),
        "causes": tuple(sorted({c for block in record.turns for c in causes_of(block)})),
        "cold_cache": record.cold_cache,
        "only_prepared": record.only_prepared,
        "steady": record.steady,
        "trend": classify(steps),
        "launch_s": launch_s(record),
    }


def launch_s(record: Record) -> float:
    """The cost of a launch: the seconds of its phases other than its turns."""
    return sum(seconds for phase, seconds in record.phases_s.items() if phase != "turn")


def causes_of(block: Block) -> tuple[str, ...]:
    """The flags that invalidate a block."""
    return tuple(flag for flag in block.flags if flag in INVALIDATING_FLAGS)


def _identity(record: Record) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "cohort_id": record.cohort_id,
        "launch_id": record.launch_id,
        "case_id": record.case.case_id,
        "replica": record.replica,
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
