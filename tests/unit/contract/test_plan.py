"""Which launches of a cohort are alive at the same time."""

from __future__ import annotations

from benchmarks.contract.plan import CohortPlan, LaunchPlan
from benchmarks.contract.record import SERIAL

BASE, CASE = LaunchPlan("base"), LaunchPlan("case")


def test_launches_are_alive_together_unless_they_are_serial() -> None:
    assert CohortPlan("c", "g", 0, 0, (BASE, CASE)).alive_at_once == ((BASE, CASE),)


def test_serial_launches_are_alive_one_after_another_in_their_order() -> None:
    serial = CohortPlan("c", "g", 0, 0, (BASE, CASE, CASE, BASE), SERIAL)
    assert serial.alive_at_once == ((BASE,), (CASE,), (CASE,), (BASE,))
