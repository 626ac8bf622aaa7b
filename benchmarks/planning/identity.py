"""The hashes that identify results, proofs and plans: equal hashes mean comparable results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.contract.case import Case
from benchmarks.contract.device import DeviceRules
from benchmarks.contract.plan import Cell, Interpreter
from benchmarks.contract.protocol import (
    PROTOCOL_VERSION,
    TASK_SETTINGS,
    MeasuringProtocol,
)
from benchmarks.contract.task import TaskSpec

FREE_SETTINGS = (
    *("num_cohorts", "max_cohorts", "max_time_s", "target_half_width"),
    *("aa", "seed", "timeouts_s"),
)
"""Settings of the protocol that do not change a launch's numbers."""
KEY_CHARACTERS = 32


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The conditions that all results of a plan share."""

    protocol: MeasuringProtocol
    machine_key: str
    num_threads: int


def result_key(
    case: Case,
    code_hash: str,
    *,
    interpreters: Sequence[Interpreter],
    rules: DeviceRules,
    conditions: Conditions,
    task: TaskSpec,
) -> str:
    """The identity of a case's results: results with equal keys are comparable.

    `interpreters` are those of the framework and of its model's exporters.

    A setting for only some kinds of work (TASK_SETTINGS) counts if it is among those of `task`.
    """
    settings = dataclasses.asdict(conditions.protocol)
    free = {*FREE_SETTINGS, *TASK_SETTINGS} - {*task.settings}
    return _hash(
        {
            "case": case.to_json(),
            "code": code_hash,
            "versions": _versions(interpreters),
            "protocol_version": PROTOCOL_VERSION,
            "protocol": {k: v for k, v in settings.items() if k not in free},
            "rules": {**dataclasses.asdict(rules), "peak_flop_per_s": None},
            "machine": conditions.machine_key,
            "num_threads": conditions.num_threads,
            **_batch_is_global(case),
        }
    )


def _batch_is_global(case: Case) -> dict[str, str]:
    """Keeps results of several devices apart from earlier ones, whose batch size was per device."""
    return {"batch_size": "global"} if case.place.num_devices > 1 else {}


def proof_key(
    case: Case,
    code_hash: str,
    *,
    interpreters: Sequence[Interpreter],
    machine_key: str,
    num_threads: int,
) -> str:
    """The identity of a case's proof and of its exported files: both hold while this key is equal.

    The files follow from the Work and its weights, the precision, all code and versions behind
    them, and in rounding from the machine on which int8's ranges are calibrated.
    """
    return _hash(
        {
            "case": case.to_json(),
            "code": code_hash,
            "versions": _versions(interpreters),
            "protocol_version": PROTOCOL_VERSION,
            "machine": machine_key,
            "num_threads": num_threads,
            **_batch_is_global(case),
        }
    )


def _versions(interpreters: Sequence[Interpreter]) -> list[dict[str, str]]:
    """The framework's versions, and those of each exporter with what it exports by."""
    own, *exporters = interpreters
    return [own.versions, *({**one.versions, **one.exporter_versions} for one in exporters)]


def plan_key(cells: Iterable[Cell], protocol: MeasuringProtocol, *, fresh: bool) -> str:
    """The identity of a plan, by which the same command finds its run again."""
    return _hash(
        {
            "cells": [[cell.case.case_id, cell.result_key] for cell in cells],
            "protocol": dataclasses.asdict(protocol),
            "fresh": fresh,
        }
    )


def cohort_seed(protocol: MeasuringProtocol, *parts: str | int) -> int:
    """The seed of a cohort's order, the same whenever the cohort is planned."""
    return int(_hash([protocol.seed, *parts])[:8], 16)


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_CHARACTERS]
