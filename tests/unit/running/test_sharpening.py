"""Where a run measures further: what it decides, for its seconds, within its time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.analysis.summary import RunSummary, summarise
from benchmarks.contract.case import Case
from benchmarks.contract.plan import Cell, CohortPlan, LaunchPlan, PartPlan, Plan
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import Record
from benchmarks.presentation.sharpening import bought
from benchmarks.running import runner
from benchmarks.running.sharpening import (
    Sharpening,
    cohorts_of_stage,
    in_order_of_worth,
    next_stage,
    reopened,
    unsettled,
)
from tests.unit.analysis.records import case, key_of, plan, record
from workloads.resnet50.training_spec import SPECS

BASE, FAST, NEAR = case(), case("jax", "compiled"), case("tensorflow", "graph")
TINY_BASE, TINY_NEAR = case(size="tiny"), case("jax", "compiled", size="tiny")
PROTOCOL = MeasuringProtocol(num_cohorts=3, max_cohorts=8, target_half_width=0.04)
WOBBLE = (0.0, 0.02, -0.02, 0.01, -0.01)
"""What launches of a case that is about as fast as its base deviate by."""


def part(index: int, cases: Sequence[Case]) -> PartPlan:
    base, *others = (one.case_id for one in cases)
    return PartPlan(
        index,
        cases[0].group_id,
        "fp32",
        tuple(LaunchPlan(name) for name in (base, *others)),
        {base: (), **dict.fromkeys(others, (base,))},
    )


def plan_of(*groups: Sequence[Case], **changes: Any) -> Plan:
    cases = [one for group in groups for one in group]
    parts = tuple(part(index, group) for index, group in enumerate(groups))
    return plan(cases, **{"protocol": PROTOCOL, "parts": parts, **changes})


def launches(
    step_s: dict[Case, float],
    *,
    part: int = 0,
    num: int = 3,
    first: int = 0,
    look: int = 1,
    wobbling: Sequence[Case] = (NEAR, TINY_NEAR),
    launch_s: float = 5.0,
) -> list[Record]:
    """Launches of these step times in cohorts of one part; those of some cases wobble."""
    return [
        record(
            one,
            c,
            [seconds * (1 + (WOBBLE[c % 5] if one in wobbling else 0.001 * WOBBLE[c % 5]))] * 8,
            cohort_id=f"run1/{part}/{c}",
            launch_id=f"{part}-{c}-{one.case_id}",
            phases_s={"import": launch_s},
            look=look,
        )
        for c in range(first, first + num)
        for one, seconds in step_s.items()
    ]


def summary_of(which: Plan, records: Sequence[Record]) -> RunSummary:
    return summarise(which, records, SPECS)


THREE = plan_of([BASE, FAST, NEAR])
TIMES = {BASE: 0.2, FAST: 0.1, NEAR: 0.196}


def test_what_is_decided_and_narrow_is_settled() -> None:
    records = launches(TIMES)
    found = unsettled(THREE, summary_of(THREE, records), THREE.parts[0])
    assert [(one.case, one.verdict) for one in found] == [(NEAR.case_id, "cant_tell")]


def test_a_verdict_with_a_wide_interval_is_not_settled() -> None:
    narrow = dataclasses.replace(PROTOCOL, target_half_width=1e-9)
    which = plan_of([BASE, FAST, NEAR], protocol=narrow)
    found = unsettled(which, summary_of(which, launches(TIMES)), which.parts[0])
    assert [one.verdict for one in found] == ["faster", "cant_tell"]


def test_further_cohorts_hold_what_is_open_and_its_base() -> None:
    records = launches(TIMES)
    stage = next_stage(THREE, summary_of(THREE, records), records)
    assert stage is not None
    cohorts = cohorts_of_stage(THREE, stage, records)
    assert {one.look for one in cohorts} == {2}
    assert [one.cohort_id for one in cohorts] == [f"run1/0/{3 + i}" for i in range(len(cohorts))]
    for one in cohorts:
        assert [launch.case_id for launch in one.launches] == [BASE.case_id, NEAR.case_id]


def test_looks_are_counted_over_all_runs() -> None:
    again = launches({BASE: 0.2, NEAR: 0.196}, first=3, num=2, look=4)
    records = [*launches(TIMES), *again]
    stage = next_stage(THREE, summary_of(THREE, records), records)
    assert stage is not None
    assert {one.look for one in cohorts_of_stage(THREE, stage, records)} == {5}


def test_nothing_is_measured_further_if_all_is_settled_or_the_limit_is_reached() -> None:
    records = launches(TIMES, wobbling=())
    assert next_stage(THREE, summary_of(THREE, records), records) is None
    records = launches(TIMES, num=8)
    summary = summary_of(THREE, records)
    assert unsettled(THREE, summary, THREE.parts[0])
    assert next_stage(THREE, summary, records) is None


TWO_GROUPS = plan_of([BASE, NEAR], [TINY_BASE, TINY_NEAR])


@pytest.mark.parametrize(
    ("near_s", "tiny_s", "first_launch_s", "tiny_launch_s", "expected"),
    [
        (0.196, 0.196, 5.0, 1.0, 1),  # as open, and cheaper
        (0.196, 0.196, 1.0, 5.0, 0),
        (0.190, 0.150, 1.0, 1.0, 0),  # the other is decided, though its interval is wide
        (0.196, 0.150, 1.0, 1.0, 1),  # too close to be decided within the protocol's limit
    ],
)
def test_seconds_go_where_they_decide_most(
    near_s: float, tiny_s: float, first_launch_s: float, tiny_launch_s: float, expected: int
) -> None:
    tiny = {TINY_BASE: 0.2, TINY_NEAR: tiny_s}
    records = [
        *launches({BASE: 0.2, NEAR: near_s}, launch_s=first_launch_s),
        *launches(tiny, part=1, launch_s=tiny_launch_s),
    ]
    stage = next_stage(TWO_GROUPS, summary_of(TWO_GROUPS, records), records)
    assert stage is not None
    assert stage.part.index == expected


def test_a_stage_fits_into_the_time_that_is_left() -> None:
    records = launches(TIMES)
    summary = summary_of(THREE, records)
    assert next_stage(THREE, summary, records, left_s=9.9) is None
    stage = next_stage(THREE, summary, records, left_s=10.0)
    assert stage is not None
    assert (stage.num_cohorts, stage.seconds) == (1, 10.0)


def test_cells_of_open_comparisons_are_run_again_and_say_why() -> None:
    cells = tuple(
        Cell(one, "have", "have", "3 cohorts in run1", result_key=key_of(one)) for one in TIMES
    )
    records = launches(TIMES)
    had = dataclasses.replace(THREE, cells=cells)
    found = reopened(had, summary_of(had, records), records)
    assert [cell.action for cell in found.cells] == ["have", "have", "run"]
    reason = found.cells[2].reason
    assert reason is not None
    assert reason.endswith("can't tell after 3 cohorts")
    assert found.cells[2].estimate_s


def test_a_run_whose_time_does_not_suffice_takes_the_most_comparisons_for_its_seconds() -> None:
    cells = tuple(
        Cell(one, "run", estimate_s=30.0, result_key=key_of(one))
        for one in (TINY_BASE, TINY_NEAR, BASE, FAST, NEAR)
    )
    cohorts = tuple(
        CohortPlan(f"run1/{index}/{c}", "group", c, 0, tuple(LaunchPlan(o.case_id) for o in cases))
        for c in range(2)
        for index, cases in enumerate([[TINY_BASE, TINY_NEAR], [BASE, FAST, NEAR]])
    )
    ordered = in_order_of_worth(plan([], cells=cells, cohorts=cohorts))
    assert [one.cohort_id for one in ordered] == ["run1/1/0", "run1/1/1", "run1/0/0", "run1/0/1"]


def sharpening(records: list[Record], **changes: Any) -> Sharpening:
    store: Any = SimpleNamespace(records=lambda run_id: records)
    catalog: Any = SimpleNamespace(specs=lambda: SPECS)
    notes: list[str] = []
    fields = {"note": notes.append, "max_time_s": 100.0, **changes}
    return Sharpening(THREE, catalog, store, **fields)


def test_a_cohort_begins_if_it_is_expected_to_end_in_the_user_s_time() -> None:
    cohort = CohortPlan("run1/0/9", "g", 9, 0, (LaunchPlan(BASE.case_id), LaunchPlan(NEAR.case_id)))
    known = launches(TIMES)
    assert sharpening(known, is_limited=True).fits(cohort)
    assert not sharpening(known, is_limited=True, max_time_s=9.0).fits(cohort)
    assert sharpening(known, max_time_s=9.0).fits(cohort)  # the protocol's own time ends nothing
    assert sharpening([], is_limited=True, max_time_s=9.0).fits(cohort)  # never launched here


def test_a_look_before_a_verdict_was_possible_is_not_spent() -> None:
    records = launches(TIMES, num=2)
    stage = next_stage(THREE, summary_of(THREE, records), records)
    assert stage is not None
    assert stage.look == 1


def test_more_rounds_take_more_seconds() -> None:
    records = [
        dataclasses.replace(one, phases_s={"import": 2.0, "turn": 3.0}) for one in launches(TIMES)
    ]
    summary = summary_of(THREE, records)
    ratios = tuple(
        dataclasses.replace(one, effort=dataclasses.replace(one.effort, best_rounds=16))
        for one in summary.ratios
        if one.effort
    )
    stage = next_stage(THREE, dataclasses.replace(summary, ratios=ratios), records)
    assert stage is not None
    assert stage.seconds == stage.num_cohorts * 2 * (2.0 + 2 * 3.0)  # 8 rounds were made in 3 s
    cohort = CohortPlan("run1/0/9", "g", 9, 0, (LaunchPlan(BASE.case_id),), num_rounds=16)
    assert not sharpening(records, is_limited=True, max_time_s=7.0).fits(cohort)
    assert sharpening(records, is_limited=True, max_time_s=9.0).fits(cohort)


def test_what_is_measured_in_vain_is_given_up_and_the_run_ends() -> None:
    """Its further launches fail: no record comes that counts."""
    one = sharpening(launches(TIMES))
    assert [bool(one.further()) for _ in range(4)] == [True, True, False, False]


def test_a_value_that_comes_gives_hope_again() -> None:
    records = launches(TIMES)
    one = sharpening(records)
    assert one.further()
    records += launches({BASE: 0.2, NEAR: 0.196}, first=3, num=1, look=2)
    assert [bool(one.further()) for _ in range(3)] == [True, True, False]


def test_what_is_left_open_is_told() -> None:
    notes: list[str] = []
    late = sharpening(launches(TIMES), max_time_s=0.0, note=notes.append)
    assert late.further() == ()
    assert notes == ["1 comparison of this run left open"]


def test_what_a_run_has_bought_is_told() -> None:
    before = summary_of(THREE, launches(TIMES))
    more = launches({BASE: 0.2, NEAR: 0.196}, first=3, num=5, look=2)
    [line] = bought(before, summary_of(THREE, [*launches(TIMES), *more]))
    assert line.startswith("tensorflow graph fp32: 1.02")
    assert "can't tell -> 1.0" in line
    assert line.endswith("with 5 more launches")
    assert list(bought(before, before)) == []


def test_a_run_goes_on_with_further_cohorts_until_there_are_none() -> None:
    stages = iter([["c", "does not fit"], []])
    current: Any = SimpleNamespace(
        plan=SimpleNamespace(cohorts=["a", "b"]),
        stopping=SimpleNamespace(requested=False),
        further=lambda: next(stages),
        fits=lambda cohort: cohort != "does not fit",
    )
    assert list(runner._cohorts(current)) == cast("Any", ["a", "b", "c"])


def test_a_run_whose_further_cohorts_do_not_fit_ends() -> None:
    current: Any = SimpleNamespace(
        plan=SimpleNamespace(cohorts=[]),
        stopping=SimpleNamespace(requested=False),
        further=lambda: ["too long"],
        fits=lambda cohort: False,
    )
    assert list(runner._cohorts(current)) == []


def test_a_run_that_is_stopped_begins_no_further_cohort() -> None:
    current: Any = SimpleNamespace(
        plan=SimpleNamespace(cohorts=["a", "b"]), stopping=SimpleNamespace(requested=False)
    )
    current.fits = lambda cohort: True
    found = runner._cohorts(current)
    assert cast("Any", next(found)) == "a"
    current.stopping.requested = True
    assert list(found) == []
