"""How long a launch's phases took, whoever was late to hear of them."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contract.message import Message, Phase, Proved
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.running.live import Live


class LateWorker:
    """Its messages wait to be read, as those of a worker do whose parent got no processor."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)

    def send(self, message: Any) -> None:
        pass

    def receive(self, *, timeout_s: float, tick: Any) -> Message:
        return self.messages.pop(0)

    def end(self, *, grace_s: float) -> None:
        pass


def phases_s(*messages: Message) -> dict[str, float]:
    live = Live(
        launch=SimpleNamespace(protocol=MeasuringProtocol()),  # type: ignore[arg-type]
        launch_id="late",
        started_at="",
        worker=LateWorker(*messages),  # type: ignore[arg-type]
        tick=lambda: None,
        on_phase=lambda phase: None,
    )
    live.prove()
    return live.phases_s


def test_a_phase_lasts_as_long_as_the_worker_says_however_late_it_is_heard() -> None:
    now = time.monotonic()
    took = phases_s(
        Phase("build", now + 5.0),
        Phase("export", now + 6.0),
        Phase("load", now + 6.5),
        Proved({}, {}),
    )
    assert took["build"] == pytest.approx(1.0)
    assert took["export"] == pytest.approx(0.5)


def test_a_phase_that_began_before_anybody_waited_takes_nothing_from_another() -> None:
    now = time.monotonic()
    took = phases_s(Phase("import", now - 3.0), Phase("build", now - 1.0), Proved({}, {}))
    assert took["start"] == 0.0
    assert took["import"] == pytest.approx(2.0)
    assert took["build"] >= 1.0
