from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from benchmarks.planning.catalog import discover
from tests.overhead.aa_runs import (
    DEFAULT_CELLS,
    EXTENSION,
    AARun,
    comparisons_of,
    load_of,
    rows,
    run_from,
)


def document(ratios: list[dict[str, Any]]) -> dict[str, Any]:
    cells = [
        {"case_id": f"work/{name}", "framework": name, "grade": grade, "status": "ok"}
        for name, grade in (("pytorch", "A"), ("pytorch_twin", "B"), ("jax_twin", "C"))
    ]
    return {"cells": cells, "ratios": ratios}


def ratio(
    case: str, low: float | None, high: float | None, *, verdict: str = "same"
) -> dict[str, Any]:
    return {
        "base": "work/pytorch",
        "case": f"work/{case}",
        "ratio": 1.0,
        "low": low,
        "high": high,
        "num_launches": 3,
        "verdict": verdict,
    }


def run(index: int, *ratios: dict[str, Any], is_busy: bool, seconds: float = 60.0) -> AARun:
    found = comparisons_of(document(list(ratios)))
    return AARun(index, "cells", is_busy, seconds, look=1, comparisons=found)


def test_every_cell_is_measured_quiet_and_busy_equally_often_and_each_is_first_in_turn() -> None:
    loads = [load_of(index, 3) for index in range(12)]
    assert Counter(loads) == {(cell, busy): 2 for cell in range(3) for busy in (False, True)}
    assert [busy for _, busy in loads[::2]] == [False] * 3 + [True] * 3


def test_only_a_framework_against_its_own_twin_counts() -> None:
    found = comparisons_of(
        document([ratio("jax_twin", 0.5, 0.6, verdict="slower"), ratio("pytorch_twin", 0.9, 1.1)])
    )
    (own,) = found
    assert (own.case, own.grade, own.contains_1, own.is_false) == (
        *("work/pytorch_twin", "B"),
        *(True, False),
    )


def test_a_verdict_for_one_side_is_false() -> None:
    (faster,) = comparisons_of(document([ratio("pytorch_twin", 1.03, 1.1, verdict="faster")]))
    assert (faster.contains_1, faster.is_false) == (False, True)


def test_without_an_interval_nothing_is_said_of_it() -> None:
    (one,) = comparisons_of(document([ratio("pytorch_twin", None, None, verdict="cant_tell")]))
    assert (one.contains_1, one.half_width, one.is_false) == (None, None, False)


def test_a_kept_run_is_read_back_as_it_was() -> None:
    own = run(3, ratio("pytorch_twin", 0.9, 1.1), is_busy=True)
    assert run_from(json.loads(json.dumps(asdict(own)))) == own


def test_the_table_keeps_quiet_and_busy_runs_apart() -> None:
    runs = [
        run(0, ratio("pytorch_twin", 0.98, 1.02), is_busy=False, seconds=50.0),
        run(1, ratio("pytorch_twin", 1.03, 1.1, verdict="faster"), is_busy=True, seconds=70.0),
        run(2, ratio("pytorch_twin", None, None, verdict="cant_tell"), is_busy=True, seconds=90.0),
    ]
    _, quiet, busy = rows(runs)
    assert quiet == ("quiet", "1", "1", "0", "1 of 1", "2.0", "1 same", "50")
    assert busy == ("busy", "2", "2", "1", "0 of 1", "3.3", "1 cant_tell, 1 faster", "80")


def test_a_twin_is_the_same_adapter_and_implementation() -> None:
    catalog = discover([EXTENSION])
    for cells in DEFAULT_CELLS:
        axes = dict(one.split("=") for one in cells.split())
        name, twin = axes["framework"].split(",")
        own, other = (catalog.implementations[axes["workload"], one] for one in (name, twin))
        assert (other.file, other.module) == (own.file, own.module)
        adapter = catalog.frameworks[twin].folder / "adapter.py"
        assert f"from benchmarks.frameworks.{name}.adapter import Adapter" in adapter.read_text()
