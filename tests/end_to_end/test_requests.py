"""`dyno run` and `dyno parity` of requests, with fakes that answer honestly or do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dyno_cli as cli
import pytest

from benchmarks.statistics.percentiles import tail_bound
from benchmarks.storage.store import Store

MATRIX = ("size=tiny", "execution=eager", "device=cpu")
INFER = (*MATRIX, "workload=fake_infer")
DECODE = (*MATRIX, "workload=fake_decode")
HONEST = ("fake_double", "fake_steady")
CHEATS = {
    "fake_astray": "likely: the bias is missing",
    "fake_cheat_batch": "the input does not matter",
    "fake_cheat_memory": "they skipped work",
    "fake_cheat_answer": "returned answer, against the program's logits",
    "fake_cheat_watched": "answers to timed requests: off by",
    "fake_unfrozen": "variables that were not frozen into it",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("requests")


@pytest.fixture(scope="module")
def run(folder: Path) -> cli.Outcome:
    """Every fake that answers single requests, in one launch each."""
    names = ",".join([*HONEST, *CHEATS])
    return cli.dyno(
        *("run", *INFER, f"framework={names}", "precision=fp32", "protocol=smoke"),
        *(f"machine.cache_folder={folder / 'cache'}", "protocol.max_rounds=4", "--json"),
        store=folder / "store",
    )


def cells_of(outcome: cli.Outcome) -> dict[str, Any]:
    return {cell["framework"]: cell for cell in outcome.json["cells"]}


@pytest.mark.parametrize("name", HONEST)
def test_honest_requests_have_percentiles_and_a_rate(name: str, run: cli.Outcome) -> None:
    cell = cells_of(run)[name]
    assert (cell["status"], cell["parity"], cell["unit"]) == ("ok", "pass", "request")
    step_ms = {"fake_steady": 10, "fake_double": 20}[name]
    latencies = (cell["latency_p50_ms"], cell["latency_p90_ms"])
    assert latencies == pytest.approx((step_ms, step_ms), rel=1e-3)
    assert cell["latency_num_samples"] >= 75
    assert cell["latency_p99_ms"] is None
    assert cell["items_per_s"] == pytest.approx(2000 / step_ms, rel=1e-3)
    assert cell["export_s"] >= 0.3
    assert cell["first_answer_s"] >= cell["export_s"]


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_caught_and_named(name: str, run: cli.Outcome) -> None:
    cell = cells_of(run)[name]
    assert cell["status"] == ("nonfinite" if name == "fake_unfrozen" else "invalid_work")
    assert CHEATS[name] in cell["reason"]


def test_a_percentile_comes_with_enough_requests_and_as_a_bound(folder: Path) -> None:
    done = cli.dyno(
        *("run", *INFER, "framework=fake_steady", "precision=fp32", "protocol=smoke"),
        *("protocol.percentiles=[50,95]", "protocol.max_rounds=10", "--json"),
        f"machine.cache_folder={folder / 'cache'}",
        store=folder / "tail",
    )
    cell = cells_of(done)["fake_steady"]
    assert cell["latency_num_samples"] >= 143  # 1.1 times the 130 that p95 takes
    (record,) = Store(folder / "tail").records()
    expected = tail_bound([record.request_seconds], 95)
    assert cell["latency_num_samples"] == expected.num_samples
    if expected.bound is None:  # slow requests came in runs, and took more
        assert cell["latency_reasons"]["p95"] == expected.reason
    else:
        assert cell["latency_p95_is_bound"] is True
        assert cell["latency_p95_ms"] == pytest.approx(1e3 * expected.bound)


def test_the_table_is_of_latencies(folder: Path) -> None:
    done = cli.dyno("show", "--notes", store=folder / "tail")
    assert "p50 ms" in done.out
    assert "p95 ms" in done.out
    assert "first answer" in done.out
    assert "requests/s in the same loop" in done.out


@pytest.fixture(scope="module")
def proven(folder: Path) -> cli.Outcome:
    """Sequences of requests, in both precisions."""
    return cli.prove(
        *(*DECODE, "framework=fake_steady,fake_double,fake_stale", "precision=fp32,fp64", "--json"),
        cache=folder / "cache",
    )


def test_sequences_are_proven_request_by_request(proven: cli.Outcome) -> None:
    cells = {(c["framework"], c["precision"]): c for c in proven.json["cells"]}
    for name in HONEST:
        for precision in ("fp32", "fp64"):
            cell = cells[name, precision]
            assert (cell["status"], cell["reason"]) == ("pass", None)
            names = {check["name"] for check in cell["checks"]}
            assert {"logits", "logits_worst", "answer", "distinct", "reproduced"} <= names


def test_state_that_a_sequence_leaves_is_caught_and_named(proven: cli.Outcome) -> None:
    for cell in proven.json["cells"]:
        if cell["framework"] == "fake_stale":
            assert cell["status"] == "fail"
            assert "state of the sequence before is left over" in cell["causes"][0]
            assert "batch65, request 0" in cell["first_difference"]
