"""What the harness costs: Dyno's blocks against a bare loop over the same Program, in turns.

    pytest -m overhead tests/overhead/test_harness.py -s

Both are processes of their own, alive together; while one steps, the other waits. Prints the median
of the paired ratios with its interval, and both peaks of memory. Asserts nothing about speed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.contract.message import Launch, Turn, encode
from benchmarks.planning.catalog import discover
from benchmarks.planning.expand import PlanRequest, make_plan
from benchmarks.running.guard import Guard
from benchmarks.running.launching import ROOT, Folders, command_of, launch_of, prepare_data
from benchmarks.running.live import Live
from benchmarks.running.process import Worker
from benchmarks.storage.store import Store

NUM_PAIRS = 60
BLOCK_S = 0.3


@pytest.mark.overhead
@pytest.mark.parametrize("framework", ["pytorch", "tensorflow", "jax"])
def test_blocks_against_a_bare_loop(framework: str, benchmark: Any, tmp_path: Path) -> None:
    execution = {"pytorch": "eager", "tensorflow": "graph", "jax": "compiled"}[framework]
    axes = [f"framework={framework}", f"execution={execution}", "size=small", "batch_size=4"]
    catalog = discover()
    plan = make_plan(
        PlanRequest((*axes, "precision=fp32"), fresh=True),
        catalog=catalog,
        store=Store(tmp_path / "runs"),
    )
    folders = Folders(cache=ROOT / ".dyno", logs=tmp_path)
    [cell] = plan.cells
    prepare_data(catalog, cell.case.work, folders, timeout_s=300)
    launch = launch_of(
        plan,
        catalog,
        cell.case,
        launch_id="overhead",
        folders=folders,
        num_resident=1,
    )
    with Guard() as guard:
        live = Live(
            launch=launch,
            launch_id="overhead",
            started_at="",
            worker=Worker(command_of(plan, catalog, launch, "overhead", folders), guard),
            tick=lambda: None,
            on_phase=lambda phase: None,
        )
        live.prepare()
        bare = BareLoop(launch, command_of(plan, catalog, launch, "overhead", folders), tmp_path)
        assert live.ready is not None
        num_steps = max(1, round(BLOCK_S / live.ready.step_s))
        ratios = benchmark.pedantic(
            paired_ratios, args=(live, bare, num_steps), rounds=1, iterations=1
        )
        bare_bytes = bare.peak_bytes()
        live.finish()
    assert live.finished is not None
    low, high = median_interval(ratios)
    memory_ratio = (live.finished.peak_memory_bytes or 0) / bare_bytes
    benchmark.extra_info.update(
        dyno_over_bare=statistics.median(ratios), low=low, high=high, memory_ratio=memory_ratio
    )
    print(
        f"\n{framework}: Dyno's images/s over the bare loop's {statistics.median(ratios):.4f}"
        f" [{low:.4f}, {high:.4f}] over {len(ratios)} pairs;"
        f" peak memory {memory_ratio:.4f} times the bare loop's"
    )


class BareLoop:
    """The bare loop's process, warm and waiting."""

    def __init__(self, launch: Launch, command: Any, folder: Path) -> None:
        self._process = subprocess.Popen(
            [
                command.arguments[0],
                str(Path(__file__).with_name("bare_loop.py")),
                encode(launch).decode(),
            ],
            env=dict(command.environment),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "bare.log").open("wb"),
        )
        assert self._process.stdout is not None
        while b"ready" not in self._process.stdout.readline():
            assert self._process.poll() is None, (folder / "bare.log").read_text()

    def step_ns(self, num_steps: int) -> int:
        return self._ask(str(num_steps))

    def peak_bytes(self) -> int:
        peak = self._ask("")
        self._process.communicate()
        return peak

    def _ask(self, request: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{request}\n".encode())
        self._process.stdin.flush()
        return int(json.loads(self._process.stdout.readline()))


def paired_ratios(live: Live, bare: BareLoop, num_steps: int) -> list[float]:
    """Bare time over Dyno's time, above 1 where Dyno is faster; who begins alternates."""
    ratios = []
    for index in range(NUM_PAIRS):
        if index % 2:
            bare_ns = rewarmed(bare, num_steps)
        block = live.take_turn(Turn(round=index, num_steps=num_steps))
        if not index % 2:
            bare_ns = rewarmed(bare, num_steps)
        ratios.append(bare_ns / block.duration_ns)
    return ratios


def rewarmed(bare: BareLoop, num_steps: int) -> int:
    """A bare block after one discarded step, as every turn of Dyno's has."""
    bare.step_ns(1)
    return bare.step_ns(num_steps)


def median_interval(ratios: list[float]) -> tuple[float, float]:
    """A 95 % bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(low), float(high)
