"""Phase durations do not depend on when the parent process or a slow listener hears of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from unittest.mock import Mock

import pytest

from benchmarks.contract.message import (
    Begin,
    BlockDone,
    Failed,
    Finish,
    Finished,
    Imported,
    LaunchRequest,
    Message,
    Phase,
    ProofRequest,
    Proved,
    Ready,
    Turn,
    stamp,
)
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.running import launch as live_module
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch
from benchmarks.running.process import Worker

LATE_S = 100.0
"""After it was sent, the parent reads a message: it got no processor for so long."""


class LateParent:
    """The clock of a parent, and its worker, whose answers wait to be read.

    `answers` are what the worker says to each message, with the seconds after it that it says so.
    """

    def __init__(self, answers: dict[type, list[tuple[float, Callable[[float], Message]]]]) -> None:
        self.now_s = 1000.0
        self.answers = answers
        self.unread: list[Message] = []

    def monotonic(self) -> float:
        return self.now_s

    def send(self, message: Any) -> None:
        kind = message.__class__  # a mock's is what it stands for
        for after_s, say in self.answers.get(kind, []):
            self.unread.append(say(self.now_s + after_s))

    def receive(self, *, timeout_s: float, tick: Any) -> Message:
        message = self.unread.pop(0)
        self.now_s = max(self.now_s, message.sent_s + LATE_S)
        return message

    def stop(self) -> None:
        self.now_s += 1000.0  # others prepare, and take their turns

    def resume(self) -> None:
        pass

    def end(self, *, grace_s: float) -> None:
        pass


def said(message: type, *arguments: Any) -> Callable[[float], Message]:
    def say(sent_s: float) -> Message:
        made: Message = message(*arguments)
        stamp(made, sent_s)
        return made

    return say


def started(
    monkeypatch: pytest.MonkeyPatch,
    message: type,
    answers: dict[type, list[tuple[float, Callable[[float], Message]]]],
) -> SupervisedLaunch:
    parent = LateParent(answers)
    monkeypatch.setattr(live_module, "time", parent)
    launch = Mock(message, protocol=MeasuringProtocol())
    worker = cast("Worker", parent)
    return SupervisedLaunch(
        launch, "late", "", worker, tick=lambda: None, on_phase=lambda phase: None
    )


def test_a_phase_lasts_as_long_as_the_worker_says(monkeypatch: pytest.MonkeyPatch) -> None:
    live = started(
        monkeypatch,
        LaunchRequest,
        {
            LaunchRequest: [(1, said(Phase, "import")), (3, said(Imported))],
            Begin: [
                (1, said(Phase, "build")),
                (2, said(Phase, "export")),
                (2.5, said(Phase, "warm_up")),
                (4, said(Ready, 0.1, 1e-6, (1,), None, (), True)),
                (4, said(Phase, "turn")),  # said before it is stopped, and read with the first turn
            ],
            Turn: [(0.25, said(BlockDone, 0, 1, 10, 0, None, False))],
            Finish: [(0.5, said(Phase, "finish")), (2, said(Finished, {}, None, None))],
        },
    )
    live.start()
    live.await_import()
    live.prepare()
    for _ in range(2):
        live.take_turn(Turn(0, 1))
    live.finish()
    assert live.phases_s == pytest.approx(
        {
            "start": 1.0,
            "import": 2.0 + 1.0,  # and until it began to build
            "build": 1.0,
            "export": 0.5,
            "warm_up": 1.5,
            "turn": 2 * 0.25,
            "finish": 2.0,
        }
    )


def test_so_do_those_of_a_proof_and_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    proof = started(
        monkeypatch,
        ProofRequest,
        {ProofRequest: [(1, said(Phase, "import")), (3, said(Proved, {}, {}))]},
    )
    proof.prove()
    assert proof.phases_s == pytest.approx({"start": 1.0, "import": 2.0})
    failing = started(
        monkeypatch,
        LaunchRequest,
        {LaunchRequest: [(1, said(Phase, "import")), (2, said(Failed, "crashed", "", "import"))]},
    )
    failing.start()
    with pytest.raises(LaunchEndedError):
        failing.await_import()
    assert failing.phases_s == pytest.approx({"start": 1.0, "import": 1.0})
