"""The first request is noted, the second is obeyed at once."""

from __future__ import annotations

import os
import signal

import pytest

from benchmarks.running.stopping import StopNowError, Stopping


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_two_signals(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with Stopping() as stopping:
        assert not stopping.requested
        os.kill(os.getpid(), number)
        assert stopping.requested
        assert stopping.exit_code == code
        with pytest.raises(StopNowError):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_time_is_up_without_a_signal() -> None:
    stopping = Stopping(max_time_s=0.0)
    assert stopping.requested
    assert stopping.exit_code == 0


def test_what_must_be_finished_is_not_interrupted() -> None:
    with Stopping() as stopping, stopping.held():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert stopping.exit_code == 130
