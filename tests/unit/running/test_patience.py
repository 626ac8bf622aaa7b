"""How long a cohort waits for calm, and how often a spoilt turn is taken again."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from benchmarks.running import patience
from benchmarks.running.patience import Patience


class Machine:
    """A machine on which others take these shares of the CPUs, one after another."""

    def __init__(self, shares: list[float | None], monkeypatch: pytest.MonkeyPatch) -> None:
        self.shares, self.now_s = shares, 0.0
        monkeypatch.setattr(patience.disturbance, "foreign_share", self.foreign_share)
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now_s)

    def foreign_share(self, seconds: float, *, ours: Collection[int]) -> float | None:
        self.now_s += seconds
        return self.shares.pop(0)


@pytest.mark.parametrize(
    ("shares", "num_left"),
    [
        ([0.0, 0.5], 1),
        ([None, 0.5], 1),  # the system does not say
        ([0.5, 0.4, 0.0, 0.5], 1),
        ([0.9] * 50, 50 - 1 - 10),  # a glance and ten naps: patience is at its end
    ],
)
def test_it_waits_until_others_are_calm_or_patience_ends(
    shares: list[float | None], num_left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(shares, monkeypatch)
    Patience(1.0).await_calm()
    assert len(machine.shares) == num_left


def test_a_turn_is_taken_again_if_there_is_time_for_it() -> None:
    own = Patience(1.0)
    assert own.spend(0.75)
    assert not own.spend(0.5)
    own.earn(0.5)
    assert own.spend(0.5)
    assert own.left_s == pytest.approx(0.25)
