"""How long a cohort waits for calm, and how often a spoilt turn is taken again."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from benchmarks.running import patience
from benchmarks.running.patience import Patience


class Machine:
    """A machine that is calm or not, one after another."""

    def __init__(self, calm: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
        self.calm, self.now_s = calm, 0.0
        monkeypatch.setattr(patience.disturbance, "is_calm", self.is_calm)
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now_s)

    def is_calm(self, seconds: float, *, ours: Collection[int]) -> bool:
        self.now_s += seconds
        return self.calm.pop(0)


@pytest.mark.parametrize(
    ("calm", "num_left"),
    [
        ([True, False], 1),
        ([False, False, True, False], 1),
        ([False] * 50, 50 - 1 - 10),  # a glance and ten naps: patience is at its end
    ],
)
def test_it_waits_until_others_are_calm_or_patience_ends(
    calm: list[bool], num_left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(calm, monkeypatch)
    Patience(1.0).await_calm()
    assert len(machine.calm) == num_left


def test_a_turn_is_taken_again_if_there_is_time_for_it() -> None:
    own = Patience(1.0)
    assert own.spend(0.75)
    assert not own.spend(0.5)
    own.earn(0.5)
    assert own.spend(0.5)
    assert own.left_s == pytest.approx(0.25)
