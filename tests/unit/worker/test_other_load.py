"""The load of others is what our CPUs did and we did not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.worker import other_load
from benchmarks.worker.other_load import OtherLoad


def machine(monkeypatch: pytest.MonkeyPatch, *, cpus: int = 2) -> Any:
    """A machine of this many CPUs, whose counters the test sets."""
    now = SimpleNamespace(s=100.0, busy_s=50.0, own_s=3.0)
    clock = SimpleNamespace(monotonic=lambda: now.s, process_time=lambda: now.own_s)
    monkeypatch.setattr(other_load, "time", clock)
    monkeypatch.setattr(other_load, "_our_cpus", lambda: frozenset(range(cpus)))
    monkeypatch.setattr(other_load, "_busy_s", lambda cpus: now.busy_s)
    return now


@pytest.mark.parametrize(
    ("cpus", "busy_s", "disturbs"),
    [(2, 1.1, False), (2, 1.5, True), (32, 1.9, False), (32, 2.2, True)],
)
def test_what_we_did_not_do_others_did(
    cpus: int, busy_s: float, disturbs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = machine(monkeypatch, cpus=cpus)
    load = OtherLoad()
    now.s, now.own_s, now.busy_s = now.s + 1.0, now.own_s + 1.0, now.busy_s + busy_s
    assert load.share == pytest.approx((busy_s - 1.02) / cpus)
    assert load.disturbs is disturbs
    assert "other processes took" in str(load)


def test_what_the_system_does_not_say_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = machine(monkeypatch)
    now.busy_s = None
    load = OtherLoad()
    assert (load.share, load.disturbs) == (None, None)
    assert "does not say" in str(load)


def test_the_counters_of_this_machine_can_be_read() -> None:
    share = OtherLoad().share
    assert share is None or 0.0 <= share <= 1.0
