"""Failure is a result: real processes that die in every way, beside some that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dyno_cli as cli
import pytest

FAULTS = {
    "fake_segfault_import": ("crashed", "SIGSEGV in phase import"),
    "fake_segfault_turn": ("crashed", "SIGSEGV in phase turn"),
    "fake_build_error": ("crashed", "no kernel image is available"),
    "fake_exit": ("crashed", "sys.exit(0)"),
    "fake_killed": ("killed", "SIGKILL from outside"),
    "fake_oom_host": ("oom_host", "more than the limit of 3.0 GiB"),
    "fake_nan": ("nonfinite", "after step 1"),
    "fake_nan_later": ("nonfinite", "at the end"),
    "fake_nan_batch": ("nonfinite", "on another batch"),
    "fake_lying_fence": ("invalid_sync", "the fence does not wait"),
    "fake_misplaced": ("not_placed", "asked to run on cpu, ran on cuda"),
}
HEALTHY = ("fake_steady", "fake_double", "fake_flood", "fake_stray")
PHASES = ("import", "build", "load", "first_step", "turn", "finish")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run with every fault in it."""
    store = tmp_path_factory.mktemp("failures") / "runs"
    names = ",".join([*HEALTHY, *FAULTS])
    limits = ("machine.memory_limit_gib=3", "machine.max_resident=20")
    run = (*cli.FAKE_AXES, f"framework={names}", "protocol=smoke", *limits, "--json")
    return cli.dyno("run", *run, store=store), store


@pytest.fixture(scope="module")
def cells(outcome: Any) -> dict[str, Any]:
    return {cell["framework"]: cell for cell in outcome[0].json["cells"]}


def test_a_failed_case_gives_exit_code_3(outcome: Any) -> None:
    assert outcome[0].code == 3, outcome[0].err


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_record_with_its_status_and_reason(
    name: str, outcome: Any, cells: dict[str, Any]
) -> None:
    status, reason = FAULTS[name]
    assert cells[name]["status"] == status
    assert reason in cells[name]["reason"]
    assert cells[name]["items_per_s"] is None
    records = [r for r in records_of(outcome[1]) if r["case"]["way"]["framework"] == name]
    assert len(records) == 1


@pytest.mark.parametrize("name", HEALTHY)
def test_the_others_are_measured_all_the_same(name: str, cells: dict[str, Any]) -> None:
    assert cells[name]["status"] == "ok"


def test_the_known_step_time_is_recovered(cells: dict[str, Any]) -> None:
    steady_s, double_s = cells["fake_steady"]["step_s"], cells["fake_double"]["step_s"]
    assert (steady_s, double_s) == pytest.approx((0.01, 0.02), rel=1e-3)


def test_a_launch_that_filled_the_compile_cache_is_made_again_and_not_timed(
    tmp_path: Path,
) -> None:
    run = (*cli.FAKE_AXES, "framework=fake_steady,fake_caching", "protocol=smoke", "--json")
    cache = f"machine.cache_folder={tmp_path / 'cache'}"
    store = tmp_path / "runs"
    done = cli.dyno("run", *run, cache, "protocol.num_cohorts=2", store=store)
    assert done.code == 0, done.err
    found: dict[str, list[tuple[bool | None, bool]]] = {}
    for record in records_of(store):
        is_timed = bool(record["blocks"])
        of_case = found.setdefault(record["case"]["way"]["framework"], [])
        of_case.append((record["cold_cache"], is_timed))
    assert found == {
        "fake_steady": [(None, True), (None, True)],
        "fake_caching": [(True, False), (False, True), (False, True)],
    }
    assert "with an empty cache, not timed" in done.err
    cells = {cell["framework"]: cell for cell in done.json["cells"]}
    assert cells["fake_caching"]["num_launches"] == 2
    assert cells["fake_caching"]["first_step_cold_s"] is not None
    assert [ratio["num_launches"] for ratio in done.json["ratios"]] == [2]
    again = cli.dyno("run", *run, cache, "protocol.num_cohorts=2", store=store)
    assert (again.code, len(records_of(store))) == (0, 5)  # nothing was missing


def test_arrays_that_cannot_be_made_fail_their_cases_and_no_others(tmp_path: Path) -> None:
    axes = [axis for axis in cli.FAKE_AXES if not axis.startswith("size=")]
    run = (*axes, "size=unmakeable,tiny", "framework=fake_steady,fake_double", "protocol=smoke")
    done = cli.dyno("run", *run, "--json", store=tmp_path / "runs")
    assert done.code == 3, done.err
    found = {(cell["size"], cell["status"], cell["reason"]) for cell in done.json["cells"]}
    reason = "the canonical arrays could not be made: OSError: no space left for the arrays"
    assert found == {("unmakeable", "crashed", reason), ("tiny", "ok", None)}


def test_no_process_is_left_behind(outcome: Any) -> None:
    assert cli.marked_processes(json_run_id(outcome[0])) == []


def test_a_log_is_kept_and_a_flood_is_cut(outcome: Any) -> None:
    folder = outcome[1] / json_run_id(outcome[0])
    logs = {r["case"]["way"]["framework"]: folder / r["log"] for r in records_of(outcome[1])}
    assert "Segmentation fault" in logs["fake_segfault_import"].read_text()
    assert "RuntimeError: no kernel image" in logs["fake_build_error"].read_text()
    assert logs["fake_flood"].stat().st_size < 11 * 2**20
    assert b"bytes dropped" in logs["fake_flood"].read_bytes()


def test_no_secret_reaches_a_worker_or_the_store(outcome: Any) -> None:
    files = [path for path in outcome[1].rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"canary-4711" in path.read_bytes()]


@pytest.mark.parametrize("phase", PHASES)
def test_a_hang_ends_at_the_time_limit_of_its_phase(phase: str, tmp_path: Path) -> None:
    run = (*cli.FAKE_AXES, f"framework=fake_hang_{phase}", "protocol=smoke")
    limit = f"protocol.timeouts_s.{phase}=2"
    done = cli.dyno("run", *run, limit, "--json", store=tmp_path / "runs")
    [cell] = done.json["cells"]
    assert done.code == 3
    assert cell["status"] == "timeout"
    assert f"phase {phase}" in cell["reason"]
    assert cli.marked_processes(json_run_id(done)) == []


def test_a_hang_does_not_end_the_others(tmp_path: Path) -> None:
    run = (*cli.FAKE_AXES, "framework=fake_steady,fake_hang_build", "protocol=smoke", "--json")
    done = cli.dyno("run", *run, "protocol.timeouts_s.build=20", store=tmp_path / "runs")
    statuses = {cell["framework"]: cell["status"] for cell in done.json["cells"]}
    assert statuses == {"fake_steady": "ok", "fake_hang_build": "timeout"}


def test_a_device_that_is_out_of_memory_is_told_from_a_host_that_is(tmp_path: Path) -> None:
    axes = (*cli.FAKE_MATRIX, "execution=eager", "precision=fp32", "device=cuda")
    run = (*axes, "framework=fake_steady,fake_oom_device", "protocol=smoke", "--json")
    done = cli.dyno("run", *run, store=tmp_path / "runs")
    statuses = {cell["framework"]: cell["status"] for cell in done.json["cells"]}
    assert statuses == {"fake_steady": "ok", "fake_oom_device": "oom_device"}


def records_of(store: Path) -> list[dict[str, Any]]:
    """Every record in a store, as JSON."""
    lines = [line for file in store.rglob("records.jsonl") for line in file.read_text().split("\n")]
    return [json.loads(line)["rec"] for line in lines if line]


def json_run_id(done: Any) -> str:
    """The run that a command's JSON is about."""
    return str(done.json["run_id"])
