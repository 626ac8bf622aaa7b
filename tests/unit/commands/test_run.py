"""`dyno run` up to its first launch."""

import argparse
from types import SimpleNamespace

import pytest

from benchmarks.analysis.metrics import Metric
from benchmarks.commands import run as command
from benchmarks.contract.plan import CohortPlan, MachineConfig
from benchmarks.errors import UsageError
from benchmarks.planning.catalog import discover
from benchmarks.storage.store import Store
from tests.unit.analysis.records import case, plan

CATALOG = discover()
ARGUMENTS = argparse.Namespace(json=False, max_time=None)


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


def test_a_faulty_metric_is_refused_before_anything_is_measured(chosen, monkeypatch):
    measured = []
    monkeypatch.setattr(command, "_measure", lambda *arguments: measured.append(arguments))
    faulty = Metric("a", "b", "s", source=lambda record: 1.0, numbers=(), format="nonsense")
    chosen.catalog = SimpleNamespace(metrics=(faulty,))
    with pytest.raises(UsageError, match="nonsense"):
        command.run(ARGUMENTS)
    assert (measured, chosen.store.runs()) == ([], [])
