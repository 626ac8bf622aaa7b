"""Which launches of a cohort are alive at the same time."""

from __future__ import annotations

import dataclasses

from benchmarks.contract.device import DeviceRules
from benchmarks.contract.plan import CohortPlan, LaunchPlan, plan_from_json
from benchmarks.contract.record import SERIAL
from tests.unit.analysis.records import plan

BASE, CASE = LaunchPlan("base"), LaunchPlan("case")


def test_launches_are_alive_together_unless_they_are_serial() -> None:
    assert CohortPlan("c", "g", 0, 0, (BASE, CASE)).alive_at_once == ((BASE, CASE),)


def test_a_plan_of_an_earlier_version_is_read_back() -> None:
    today = dataclasses.replace(plan([]), device_rules={"cpu": DeviceRules()})
    data = today.to_json()
    del data["parts"]
    rules = data["device_rules"]["cpu"]
    rules["min_steps_per_block"] = rules.pop("min_steps_per_sample")
    assert plan_from_json(data) == today


def test_serial_launches_are_alive_one_after_another_in_their_order() -> None:
    serial = CohortPlan("c", "g", 0, 0, (BASE, CASE, CASE, BASE), SERIAL)
    assert serial.alive_at_once == ((BASE,), (CASE,), (CASE,), (BASE,))
