"""`dyno run` up to its first launch, and the lock of `dyno parity`."""

import argparse
from types import SimpleNamespace

import pytest

from benchmarks.analysis.metrics import Metric
from benchmarks.commands import parity
from benchmarks.commands import run as command
from benchmarks.contract.plan import CohortPlan, MachineConfig
from benchmarks.errors import EnvironmentNotReadyError, UsageError
from benchmarks.host import lock
from benchmarks.host.lock import machine_lock
from benchmarks.planning.catalog import discover
from benchmarks.running.verification import Verification
from benchmarks.storage.store import Store
from tests.unit.analysis.records import case, plan

CATALOG = discover()
ARGUMENTS = argparse.Namespace(json=False, notes=False, max_time=None)


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """A selection with one cohort to measure."""
    cohort = CohortPlan("run1/0/0", case().group_id, 0, 7, ())
    machine = MachineConfig(lock_folder=str(tmp_path), cache_folder=str(tmp_path / "cache"))
    found = SimpleNamespace(
        plan=plan([case()], cohorts=(cohort,), machine_config=machine),
        catalog=CATALOG,
        store=Store(tmp_path / "runs"),
    )
    monkeypatch.setattr("benchmarks.commands.selection.load", lambda args: found)
    return found


def test_a_run_that_the_lock_refuses_is_not_stored(chosen, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.running.runner.run", lambda run: None)
    refused = pytest.raises(EnvironmentNotReadyError, match="another dyno run")
    with machine_lock(tmp_path), refused:
        command.run(ARGUMENTS)
    assert chosen.store.runs() == []
    command.run(ARGUMENTS)
    assert chosen.store.runs() == ["run1"]


def test_a_run_is_measured_under_the_lock(chosen, tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(
        "benchmarks.running.runner.run", lambda run: held.append(lock.holder(tmp_path))
    )
    command.run(ARGUMENTS)
    [found] = held
    assert found is not None
    assert lock.holder(tmp_path) is None


def test_proofs_are_made_under_the_lock(chosen, tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(
        Verification, "prove_all", lambda self: held.append(lock.holder(tmp_path)) or []
    )
    assert parity._prove(chosen.plan, CATALOG, None) == []
    [found] = held
    assert found is not None
    assert lock.holder(tmp_path) is None


def test_a_faulty_metric_is_refused_before_anything_is_measured(chosen, monkeypatch):
    measured = []
    monkeypatch.setattr(command, "_measure", lambda *arguments: measured.append(arguments))
    faulty = Metric("a", "b", "s", source=lambda record: 1.0, numbers=(), format="nonsense")
    chosen.catalog = SimpleNamespace(metrics=(faulty,))
    with pytest.raises(UsageError, match="nonsense"):
        command.run(ARGUMENTS)
    assert (measured, chosen.store.runs()) == ([], [])
