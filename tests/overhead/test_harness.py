"""What the harness costs: Dyno's blocks against a bare loop over the same Program, in turns.

    pytest -m overhead tests/overhead/test_harness.py -s

In one process, with blocks of a single short step, where a cost between the clock's two readings
would show most; and as processes of their own, alive together, of which one waits while the other
steps. Two processes of one program differ by themselves, so that several pairs of them are
measured. Prints ratios with their intervals, and the ratio of the peaks of memory. Asserts nothing
about speed.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.contract.message import LaunchRequest, Turn, encode
from benchmarks.contract.plan import Plan
from benchmarks.planning.catalog import PROJECT_ROOT, Catalog, discover
from benchmarks.planning.planner import PlanRequest, make_plan
from benchmarks.running.guard import Guard
from benchmarks.running.launch import SupervisedLaunch
from benchmarks.running.preparation import Folders, command_of, launch_of, prepare_data
from benchmarks.running.process import Command, Worker
from benchmarks.statistics.launch_ratio import hodges_lehmann
from benchmarks.statistics.ratios import paired_ratio
from benchmarks.storage.store import Store

NUM_PAIRS = 1500
PAIRS_IN_BLOCK = 30
NUM_RUNS = 5
NUM_ROUNDS = 12
BLOCK_S = 0.3

FRAMEWORKS = ["pytorch", "tensorflow", "jax"]


@dataclass(frozen=True)
class Setup:
    """What both loops run."""

    framework: str
    plan: Plan
    catalog: Catalog
    folders: Folders

    def launch(self, launch_id: str) -> tuple[LaunchRequest, Command]:
        """The message of one launch, and how to start its worker."""
        launch = launch_of(
            self.plan,
            self.catalog,
            self.plan.cells[0].case,
            launch_id=launch_id,
            folders=self.folders,
            num_resident=1,
            oracle=None,
        )
        python = self.plan.interpreters[self.framework].python
        return launch, command_of(python, self.catalog, launch, launch_id, self.folders)


@pytest.fixture(params=FRAMEWORKS)
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Setup]:
    """A function from a size of the workload to what both loops run."""
    framework = request.param
    execution = {"pytorch": "eager", "tensorflow": "graph", "jax": "compiled"}[framework]
    axes = [f"framework={framework}", f"execution={execution}", "batch_size=4", "precision=fp32"]
    catalog = discover()
    folders = Folders(cache=PROJECT_ROOT / ".dyno", logs=tmp_path)

    def of_size(size: str) -> Setup:
        plan = make_plan(
            PlanRequest((*axes, f"size={size}"), fresh=True),
            catalog=catalog,
            store=Store(tmp_path / "runs"),
        )
        prepare_data(catalog, plan.cells[0].case.work, folders, timeout_s=300)
        return Setup(framework, plan, catalog, folders)

    return of_size


@pytest.mark.overhead
def test_blocks_against_a_bare_loop_in_one_process(
    setup: Callable[[str], Setup], benchmark: Any
) -> None:
    tiny = setup("tiny")
    bare = BareLoop(*tiny.launch("inside"), tiny.folders.logs)
    logs = benchmark.pedantic(inside_logs, args=(bare,), rounds=1, iterations=1)
    bare.peak_bytes()
    ratio, low, high = (math.exp(value) for value in median_interval(logs))
    benchmark.extra_info.update(dyno_over_bare=ratio, low=low, high=high)
    print(
        f"\n{tiny.framework}, one process: Dyno's images/s over the bare loop's {ratio:.4f}"
        f" [{low:.4f}, {high:.4f}], median of {len(logs)} pairs of steps"
    )


def inside_logs(bare: BareLoop) -> list[float]:
    """ln(bare time / block's time) of one step within one process; each goes first in turn."""
    logs = []
    for index in range(NUM_PAIRS):
        if index % 2:
            bare_ns, block_ns = bare.step_ns(1), bare.block_ns(1)
        else:
            block_ns, bare_ns = bare.block_ns(1), bare.step_ns(1)
        logs.append(math.log(bare_ns / block_ns))
    return logs


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The median with its 95 % interval, by a bootstrap of blocks, since neighbours are alike."""
    blocks = np.reshape(values, (-1, PAIRS_IN_BLOCK))
    chosen = np.random.default_rng(0).integers(len(blocks), size=(2000, len(blocks)))
    medians = np.median(blocks[chosen].reshape(len(chosen), -1), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return statistics.median(values), float(low), float(high)


@pytest.mark.overhead
def test_blocks_against_a_bare_loop_in_processes_of_their_own(
    setup: Callable[[str], Setup], benchmark: Any
) -> None:
    small = setup("small")
    found = benchmark.pedantic(measured, args=(small,), rounds=1, iterations=1)
    ratio = paired_ratio([hodges_lehmann(logs) for logs, _ in found])
    memory = statistics.median(share for _, share in found)
    runs = statistics.median(math.exp(statistics.median(logs)) for logs, _ in found)
    benchmark.extra_info.update(
        dyno_over_bare=ratio.ratio, low=ratio.low, high=ratio.high, median=runs, memory=memory
    )
    print(
        f"\n{small.framework}: Dyno's images/s over the bare loop's {ratio.ratio:.4f}"
        f" [{ratio.low:.4f}, {ratio.high:.4f}], median of the runs {runs:.4f},"
        f" over {NUM_RUNS} pairs of processes; peak memory {memory:.4f} times the bare loop's"
    )


def measured(setup: Setup) -> list[tuple[list[float], float]]:
    """For each pair of processes ln(bare time / Dyno's time) of each round, and peak over peak."""
    with Guard() as guard:
        return [one_run(setup, guard, f"overhead{i}") for i in range(NUM_RUNS)]


def one_run(setup: Setup, guard: Guard, launch_id: str) -> tuple[list[float], float]:
    """Two processes of one program, of which two of Dyno's would differ as well."""
    launch, command = setup.launch(launch_id)
    live = SupervisedLaunch(
        launch=launch,
        launch_id=launch_id,
        started_at="",
        worker=Worker(command, guard),
        tick=lambda: None,
        on_phase=lambda phase: None,
    )
    live.start()
    live.await_import()
    live.prepare()
    bare = BareLoop(launch, command, setup.folders.logs)
    assert live.ready is not None
    logs = paired_logs(live, bare, max(1, round(BLOCK_S / live.ready.step_s)))
    bare_bytes = bare.peak_bytes()
    live.finish()
    assert live.finished is not None
    return logs, (live.finished.peak_memory_bytes or 0) / bare_bytes


class BareLoop:
    """The bare loop's process and its group, warm and waiting."""

    def __init__(self, launch: LaunchRequest, command: Command, folder: Path) -> None:
        with (folder / "bare.log").open("wb") as log:
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
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        while b"ready" not in self._process.stdout.readline():
            assert self._process.poll() is None, (folder / "bare.log").read_text()

    def step_ns(self, num_steps: int) -> int:
        return self._ask(str(num_steps))

    def cpu_ns(self, num_steps: int) -> int:
        return self._ask(f"cpu {num_steps}")

    def block_ns(self, num_steps: int) -> int:
        return self._ask(f"block {num_steps}")

    def send(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)

    def peak_bytes(self) -> int:
        peak = self._ask("")
        self._process.communicate()  # closes the pipes and reaps the process
        return peak

    def _ask(self, request: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{request}\n".encode())
        self._process.stdin.flush()
        return int(json.loads(self._process.stdout.readline()))


def paired_logs(live: SupervisedLaunch, bare: BareLoop, num_steps: int) -> list[float]:
    """ln(bare time / Dyno's time), above 0 if Dyno is faster; each goes first in turn."""
    logs = []
    for index in range(NUM_ROUNDS):
        if index % 2:
            bare_ns = bare.step_ns(num_steps)
        taken = live.take_turn(Turn(round=index, num_steps=num_steps))
        if not index % 2:
            bare_ns = bare.step_ns(num_steps)
        logs.append(math.log(bare_ns / taken.done.duration_ns))
    return logs
