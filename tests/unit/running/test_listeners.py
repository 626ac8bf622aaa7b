"""Several listeners of one run."""

import io

import pytest

from benchmarks.running.listeners import FanOut
from benchmarks.running.stopping import StopNowError
from tests.unit.analysis.records import case, record


class Heard:
    """Keeps what it is told; raises at one event."""

    def __init__(self, raises_at=None, error=None):
        self.events = []
        self._raises_at, self._error = raises_at, error or ConnectionError("no tracker there")

    def __getattr__(self, event):
        def told(*arguments, **named):
            self.events.append((event, *arguments, *named.values()))
            if event == self._raises_at:
                raise self._error

        return told


def tell_all(listener):
    listener.begin(1, 2.0, what="cohorts")
    listener.cohort(0, "group", ["a"])
    listener.phase("a", "import")
    listener.round_done(1, 8)
    listener.record(record(case(), 0))
    listener.note("so it is")
    listener.end()


def test_every_listener_hears_every_event_in_order():
    first, second = Heard(), Heard()
    tell_all(FanOut([first, second]))
    assert first.events == second.events
    assert [event for event, *_ in first.events] == [
        *("begin", "cohort", "phase", "round_done", "record", "note", "end")
    ]
    assert first.events[0] == ("begin", 1, 2.0, "cohorts")


@pytest.mark.parametrize("position", [0, 1])
def test_a_listener_that_raises_is_dropped_and_its_error_is_noted_once(position):
    broken, healthy = Heard(raises_at="phase"), Heard()
    listeners = [healthy]
    listeners.insert(position, broken)
    tell_all(FanOut(listeners))
    assert [event for event, *_ in broken.events] == ["begin", "cohort", "phase"]
    notes = [text for event, *texts in healthy.events if event == "note" for text in texts]
    assert notes == [
        "Heard failed and gets no further events (ConnectionError: no tracker there)",
        "so it is",
    ]
    assert [event for event, *_ in healthy.events].count("phase") == 1


def test_listeners_that_all_raise_are_named_on_stderr_and_do_not_stop_the_run(capsys):
    broken = [Heard(raises_at="phase"), Heard(raises_at="note")]
    tell_all(FanOut(broken))
    events = [[event for event, *_ in one.events] for one in broken]
    assert events == [["begin", "cohort", "phase"], ["begin", "cohort", "note"]]
    failure = "Heard failed and gets no further events (ConnectionError: no tracker there)\n"
    assert capsys.readouterr().err == 2 * failure


def test_the_only_listener_that_raises_is_named_on_stderr_once(capsys):
    tell_all(FanOut([Heard(raises_at="begin")]))
    failure = "Heard failed and gets no further events (ConnectionError: no tracker there)\n"
    assert capsys.readouterr().err == failure


def test_a_closed_stderr_does_not_stop_the_run(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    tell_all(FanOut([Heard(raises_at="begin")]))


def test_a_request_to_stop_passes():
    with pytest.raises(StopNowError):
        tell_all(FanOut([Heard(raises_at="round_done", error=StopNowError())]))
