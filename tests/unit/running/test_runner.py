"""How the launches of a cohort are started, and which are alive at once."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from benchmarks.contract.evidence import PASS, Evidence, FirstStep, ParityVerdict, Proven
from benchmarks.contract.plan import CohortPlan, LaunchPlan
from benchmarks.contract.record import SERIAL, TOGETHER
from benchmarks.documents.parity import ProvenCell
from benchmarks.running import runner, starting, verification
from benchmarks.running.cohort import Cohort, Run, note_proof
from benchmarks.running.launch import LaunchEndedError
from benchmarks.running.preparation import Folders
from benchmarks.running.stopping import Stopping


class Importing:
    """A launch that says when its import is awaited, and may die of it."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self.events, self.is_alive = name, events, name != "out"

    def await_import(self) -> None:
        self.events.append(f"{self.name} imported")
        if self.name == "dies":
            raise LaunchEndedError


def events_of(names: list[str], monkeypatch: pytest.MonkeyPatch, *, num_cores: int) -> list[str]:
    """What happens while these are imported; the user wants to stop once `last` has started."""
    events: list[str] = []
    stopping = SimpleNamespace(requested=False)

    def started(cohort: Any, launch: str) -> Importing:
        events.append(launch)
        stopping.requested = launch == "last"
        return Importing(launch, events)

    monkeypatch.setattr(starting, "_started", started)
    monkeypatch.setattr(starting, "effective_cores", lambda: num_cores)
    cohort: Any = SimpleNamespace(run=SimpleNamespace(stopping=stopping))
    launches: list[Any] = list(names)
    starting.import_all(cohort, launches)
    return events


def test_frameworks_are_imported_as_many_at_a_time_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = events_of(["a", "b", "c"], monkeypatch, num_cores=2)
    assert events == ["a", "b", "a imported", "c", "b imported", "c imported"]


def test_on_one_core_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert events_of(["a", "b"], monkeypatch, num_cores=1) == ["a", "a imported", "b", "b imported"]


def test_nothing_more_is_started_once_the_user_wants_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert events_of(["last", "b"], monkeypatch, num_cores=2) == ["last"]


def test_a_launch_that_is_out_keeps_no_other_from_its_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = events_of(["dies", "out", "c"], monkeypatch, num_cores=2)
    assert events == ["dies", "out", "dies imported", "c", "c imported"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, ("1 cohort to measure", "1 cell to prove")),
        (2, ("2 cohorts to measure", "2 cells to prove")),
    ],
)
def test_what_there_is_to_do_is_counted_in_words(
    number: int, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    progress = SimpleNamespace(
        begin=lambda number, estimate_s, *, what: said.append(what), end=lambda: None
    )
    stopping: Any = Stopping()
    stopping.exit_code = 130  # so nothing is measured
    cells = [SimpleNamespace(action="run", rewrites=None)] * number
    plan: Any = SimpleNamespace(cohorts=[None] * number, cells=cells, estimate_s=None)
    store: Any = None
    folders = Folders(cache=tmp_path, logs=tmp_path)
    nothing: Any = None
    monkeypatch.setattr(runner, "_references", lambda current, guard: None)
    runner.run(Run(plan, nothing, store, folders, cast("Any", progress), stopping))
    proven = [ProvenCell(nothing, ParityVerdict(PASS))] * number
    monkeypatch.setattr(verification.Verification, "_prove_each", lambda self, guard: proven)
    verification.Verification(plan, nothing, folders, cast("Any", progress), stopping).prove_all()
    assert tuple(said) == expected


# Which launches are alive at once


def runs_of(
    resident: str, monkeypatch: pytest.MonkeyPatch, *, failing: str = ""
) -> list[list[str]]:
    """The cases that are launched at once, set after set; `failing` fails when it is launched."""
    names = ["a", "b", "b", "a"] if resident == SERIAL else ["a", "b"]
    plan = CohortPlan("run/0/0", "group", 0, 7, tuple(LaunchPlan(name) for name in names), resident)
    events: list[list[str]] = []
    current: Any = SimpleNamespace(
        failed=set(),
        only_prepares=False,
        stopping=SimpleNamespace(requested=False),
        progress=SimpleNamespace(cohort=lambda index, title, case_ids: None),
        case=lambda launch: launch.case_id,
    )

    def at_once(cohort: Any, launches: list[LaunchPlan]) -> None:
        events.append(sorted(launch.case_id for launch in launches))
        current.failed |= {name for name in events[-1] if name == failing}

    monkeypatch.setattr(runner, "_run_at_once", at_once)
    references: Any = SimpleNamespace(of=lambda case: events.append([f"reference of {case}"]))
    guard: Any = None
    runner._run_cohort(Cohort(current, plan, guard, references), 0)
    return events


@pytest.mark.parametrize(
    ("num_cohorts", "left_s", "expected"), [(3, 100.0, 20.0), (3, 10.0, 10.0), (1, 100.0, 0.0)]
)
def test_noisy_rounds_may_take_as_long_as_launching_in_the_cohort_s_share_of_time(
    monkeypatch: pytest.MonkeyPatch, num_cohorts: int, left_s: float, expected: float
) -> None:
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    protocol = SimpleNamespace(num_cohorts=num_cohorts)
    current: Any = SimpleNamespace(plan=SimpleNamespace(protocol=protocol))
    nothing: Any = None
    cohort = Cohort(current, nothing, nothing, nothing, end_s=1000.0 + left_s)
    assert runner._worthwhile_s(cohort, 20.0) == pytest.approx(expected)


def test_each_cohort_has_an_equal_share_of_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    ends: list[float] = []
    monkeypatch.setattr(runner, "_run_cohort", lambda cohort, index: ends.append(cohort.end_s))
    monkeypatch.setattr(runner, "_references", lambda current, guard: None)
    plan: Any = SimpleNamespace(cohorts=[None] * 3, estimate_s=None)
    nothing: Any = None
    left = iter([90.0, 80.0, 30.0])
    progress = SimpleNamespace(begin=lambda *_, **__: None, end=lambda: None)
    runner.run(
        Run(
            *(plan, nothing, nothing, Folders(cache=tmp_path, logs=tmp_path)),
            *(cast("Any", progress), Stopping()),
            left_s=lambda: next(left),
        )
    )
    assert ends == [1030.0, 1040.0, 1030.0]


def test_launches_of_a_cohort_are_alive_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_of(TOGETHER, monkeypatch)[-1] == ["a", "b"]


def test_serial_launches_come_one_by_one_after_all_their_references(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = runs_of(SERIAL, monkeypatch)
    assert found[:4] == [
        ["reference of a"],
        ["reference of b"],
        ["reference of b"],
        ["reference of a"],
    ]
    assert found[4:] == [["a"], ["b"], ["b"], ["a"]]


@pytest.mark.parametrize(("failing", "launched"), [("b", ["a", "b"]), ("a", ["a", "b"])])
def test_where_a_serial_launch_fails_the_other_case_is_launched_once(
    monkeypatch: pytest.MonkeyPatch, failing: str, launched: list[str]
) -> None:
    assert runs_of(SERIAL, monkeypatch, failing=failing)[4:] == [[one] for one in launched]


# Launches that are made once more


class Live:
    """A launch that ends its preparation in one of these ways: ok, cold, crashed, disturbed.

    A cold one takes turns only if it may.
    """

    def __init__(
        self, ending: str, *, may_be_cold: bool = False, only_prepares: bool = False
    ) -> None:
        self.ending = ending
        self.may_be_cold = may_be_cold
        self.only_prepares = only_prepares
        self.failure: Any = None
        self.ready: Any = None
        self.finished: Any = None

    @property
    def is_alive(self) -> bool:
        return self.failure is None and self.finished is None

    def prepare(self) -> None:
        if self.ending in ("ok", "cold"):
            is_cold = self.ending == "cold"
            takes_turns = (self.may_be_cold or not is_cold) and not self.only_prepares
            self.ready = SimpleNamespace(cold_cache=is_cold, takes_turns=takes_turns)
            return
        self.failure = SimpleNamespace(status=self.ending)
        raise LaunchEndedError

    def finish(self) -> None:
        self.finished = "finished"


class Prepared(NamedTuple):
    """What came of a planned launch whose processes end in given ways."""

    told: list[str]
    launched: list[Live]
    recorded_early: list[Live]
    """Those that are recorded before the turns."""
    cold: set[str]


def prepared(
    endings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    was_cold: bool = False,
    only_prepares: bool = False,
) -> Prepared:
    found = Prepared([], [], [], {"resnet50"} if was_cold else set())
    left = iter(endings)

    def started(cohort: Any, launch: Any) -> Any:
        may_be_cold = "resnet50" in found.cold
        live = Live(next(left), may_be_cold=may_be_cold, only_prepares=only_prepares)
        found.launched.append(live)
        cohort.lives.append((launch, found.launched[-1]))
        return found.launched[-1]

    stopping = SimpleNamespace(requested=False, held=nullcontext)
    current = SimpleNamespace(
        stopping=stopping,
        progress=SimpleNamespace(note=found.told.append),
        cold=found.cold,
        only_prepares=only_prepares,
    )
    cohort: Any = SimpleNamespace(run=current, lives=[])
    started(cohort, SimpleNamespace(case_id="resnet50"))
    monkeypatch.setattr(starting, "_started", started)
    monkeypatch.setattr(starting, "_await_import", lambda live: None)
    monkeypatch.setattr(
        starting, "record_launch", lambda cohort, launch, live: found.recorded_early.append(live)
    )
    starting.prepare_all(cohort)
    assert [live for _, live in cohort.lives] == [
        live for live in found.launched if live not in found.recorded_early
    ]
    return found


@pytest.mark.parametrize(
    ("endings", "num_launches"),
    [(["ok"], 1), (["disturbed", "ok"], 2), (["disturbed", "disturbed"], 2), (["crashed"], 1)],
)
def test_a_disturbed_launch_is_launched_once_more(
    endings: list[str], num_launches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepared(endings, monkeypatch)
    assert len(found.launched) == num_launches
    assert found.told == ["resnet50: disturbed, launched again"] * (num_launches - 1)
    assert found.recorded_early == []


@pytest.mark.parametrize(
    "endings", [["cold", "ok"], ["disturbed", "cold", "ok"], ["cold", "disturbed", "ok"]]
)
def test_a_launch_that_filled_its_cache_is_recorded_and_made_again(
    endings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepared(endings, monkeypatch)
    assert [live.ending for live in found.launched] == endings
    assert [live.ending for live in found.recorded_early] == ["cold"]
    assert found.cold == set()


@pytest.mark.parametrize("endings", [["ok"], ["cold"], ["disturbed", "cold"]])
def test_a_run_that_only_prepares_records_its_launch_and_makes_no_other(
    endings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepared(endings, monkeypatch, only_prepares=True)
    assert [live.ending for live in found.launched] == endings
    assert found.recorded_early == found.launched[-1:]


def test_a_second_cold_launch_in_a_row_is_timed_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = prepared(["cold", "cold"], monkeypatch)
    assert found.recorded_early == found.launched[:1]
    assert found.launched[1].is_alive
    assert "its cache is not kept" in found.told[0]
    later = prepared(["cold"], monkeypatch, was_cold=True)
    assert later.recorded_early == []
    assert later.launched[0].is_alive


# What a case's first launch has proven

STEP1 = FirstStep(loss=7.0, gradient_norm=3.0)
PASSED = ParityVerdict(PASS)


@pytest.mark.parametrize(
    ("status", "num_turns", "is_proven"),
    [
        *(("ok", 5, True), ("unproven", 5, True), ("invalid_work", 5, False)),
        *(("crashed", 5, False), ("disturbed", 5, False), ("interrupted", 5, False)),
        ("ok", 0, False),  # it only compiled
    ],
)
def test_a_launch_proves_for_the_later_ones_only_if_it_was_timed_and_ended_well(
    status: str, num_turns: int, is_proven: bool
) -> None:
    current: Any = SimpleNamespace(proven={})
    one: Any = SimpleNamespace(
        launch_id="run-0-0-1",
        status=status,
        case=SimpleNamespace(case_id="resnet50"),
        blocks=("a block",) * num_turns,
        evidence=Evidence(step1=STEP1, parity=PASSED),
    )
    note_proof(current, one)
    expected = {"resnet50": Proven("run-0-0-1", STEP1, PASSED)} if is_proven else {}
    assert current.proven == expected


def test_later_launches_are_held_to_the_first_proof() -> None:
    first = Proven("run-0-0-0", STEP1, PASSED)
    current: Any = SimpleNamespace(proven={"resnet50": first})
    one: Any = SimpleNamespace(
        launch_id="run-0-1-0",
        status="ok",
        case=SimpleNamespace(case_id="resnet50"),
        blocks=("a block",),
        evidence=Evidence(step1=FirstStep(loss=7.001), parity=PASSED),
    )
    note_proof(current, one)
    assert current.proven == {"resnet50": first}
