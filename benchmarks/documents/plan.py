"""The document of `dyno plan --json`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.contract.plan import Cell, Plan

ACTIONS = ("run", "have", "skip")
SCHEMA = "dyno.plan/1"


def document(plan: Plan) -> dict[str, Any]:
    """The `dyno.plan/1` document; a missing number is null."""
    counts = Counter(cell.action for cell in plan.cells)
    return {
        "schema": SCHEMA,
        "run_id": plan.run_id,
        "suite": plan.suite,
        "protocol": plan.protocol.name,
        "cells": [_cell_json(cell) for cell in plan.cells],
        "counts": {action: counts[action] for action in ACTIONS},
        "num_groups": len({cohort.group_id for cohort in plan.cohorts}),
        "num_cohorts": len(plan.cohorts),
        "estimate_s": plan.estimate_s,
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "case_id": cell.case.case_id,
        **cell.case.axes(),
        "action": cell.action,
        "kind": cell.kind,
        "reason": cell.reason,
        "estimate_s": cell.estimate_s,
        "estimate_basis": cell.estimate_basis,
        "memory_bytes": cell.memory_bytes,
    }
