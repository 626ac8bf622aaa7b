"""What the commands print with --json is what their schemas allow."""

import argparse
import dataclasses
import json

import pytest

from benchmarks import cli
from benchmarks.contract.plan import Cell, Interpreter
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.documents.encoding import to_text
from benchmarks.documents.parity import document as parity_document
from benchmarks.host import disturbance
from benchmarks.planning import catalog
from benchmarks.storage.store import Store
from tests.fakes import extension as fakes
from tests.schemas import validated
from tests.unit.analysis.records import case, cohorts, effective, failed, plan, record
from tests.unit.presentation import test_latency_table as requests
from tests.unit.presentation.test_verification import CELLS

FAKES = str(fakes.extension())
BASE, FAST = case(), case("pytorch", "compiled")


@pytest.fixture
def printed(capsys):
    """Runs a command with --json and returns its document."""

    def run(*words, code=0):
        assert cli.main([*words, "--json"]) == code
        return validated(json.loads(capsys.readouterr().out))

    return run


@pytest.fixture
def resolved(monkeypatch):
    """One framework is installed, one cannot be imported, the others are not there."""
    found = {
        "pytorch": Interpreter("/python", {"torch": "1.0"}, {"cpu": 1}),
        "jax": Interpreter("/python", {}, {}, probe_failure="import died: SIGSEGV"),
    }
    monkeypatch.setattr(
        "benchmarks.planning.interpreters.resolve",
        lambda catalog, machine, names, **options: {
            name: found.get(name, "not there") for name in names
        },
    )


def test_show(printed, tmp_path):
    store = Store(tmp_path / "runs")
    skipped = Cell(case("mlx"), "skip", "not_installed", "mlx is not installed")
    store.create_run(plan([BASE, FAST], skipped=[skipped], run_id="run1"))
    seen = effective(layout="NHWC", integer_products=(3, 4))
    settings = {"asked": {"num_threads": 2}, "effective": {"products": "float32"}}
    for one in [*cohorts({BASE: 0.2, FAST: 0.1}), failed(FAST, 9), record(BASE, 0, replica=1)]:
        evidence = dataclasses.replace(one.evidence, effective=seen)
        store.append(dataclasses.replace(one, evidence=evidence, settings=settings))
    cells = printed("show", "run1", "--store", str(store.folder), code=3)["cells"]
    assert [cell["status"] for cell in cells] == ["ok", "oom_host", "not_installed"]
    assert cells[0]["effective"] == {
        "parameters": "float32",
        "activations": "float32",
        "layout": "NHWC",
        "products of integers": "3 of 4",
        "computed in": "float32",
        "threads": "2",
    }


def test_show_of_requests(printed, tmp_path):
    store = Store(tmp_path / "runs")
    protocol = MeasuringProtocol(percentiles=[50, 95, 99])
    store.create_run(plan([requests.BASE, requests.FAST], protocol=protocol))
    for one in requests.launches(10):
        store.append(one)
    [cell, _] = printed("show", "--store", str(store.folder))["cells"]
    assert cell["latency_p95_is_bound"] is True
    assert cell["latency_p90_ms"] is None


def test_plan(printed, tmp_path):
    axes = ("workload=transformer_finetune,fake_train", "framework=pytorch,fake_steady")
    found = printed("plan", "--extend", FAKES, "--store", str(tmp_path), *axes, "size=tiny")
    assert {cell.get("sequence_length") for cell in found["cells"]} == {None, 32}
    assert {cell["action"] for cell in found["cells"]} == {"run", "skip"}


@pytest.mark.usefixtures("resolved")
def test_ls(printed, tmp_path):
    store = Store(tmp_path)
    store.create_run(plan([BASE]))
    for kind in ("frameworks", "workloads", "suites", "runs"):
        assert printed("ls", kind, "--store", str(tmp_path))["rows"]
    assert printed("ls", "claims", code=5)["rows"] == []


@pytest.fixture
def idle(monkeypatch):
    """Nothing else runs on this machine."""
    monkeypatch.setattr(disturbance, "foreign_share", lambda _: 0.0)


@pytest.mark.usefixtures("resolved", "idle")
def test_doctor(printed):
    found = printed("doctor")
    assert {one["name"]: one["usable"] for one in found["frameworks"]}["pytorch"]
    assert found["findings"]


@pytest.mark.usefixtures("idle")
def test_doctor_where_there_is_no_framework(printed, monkeypatch):
    nothing = argparse.Namespace(frameworks={}, python_path=())
    monkeypatch.setattr(catalog, "discover", lambda _: nothing)
    assert printed("doctor", code=6)["frameworks"] == []


def test_parity():
    cells = validated(json.loads(to_text(parity_document(CELLS))))["cells"]
    assert [cell["status"] for cell in cells] == ["pass", "fail", "inherited", "skip", "skip"]
