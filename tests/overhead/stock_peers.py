"""Dyno's programs beside other code for the same work, each in a process of its own, in turns.

    python -m tests.overhead.stock_peers size=small batch_size=8 --launches 5 \
        --base stock_keras_tensorflow/graph tensorflow/graph keras_tensorflow/graph
    python -m tests.overhead.stock_peers size=small batch_size=4 --launches 5 \
        --base plain_jax/compiled jax/compiled
    python -m tests.overhead.stock_peers size=small batch_size=4 --launches 5 \
        --base pytorch/eager pytorch/eager/tuned

A case is FRAMEWORK/EXECUTION or FRAMEWORK/EXECUTION/RECIPE; the frameworks are Dyno's and those of
`straightforward` beside this file. The other arguments are axes, as of `dyno plan`. Unlike `dyno
run` it proves nothing, so that it also compares programs that differ in their mathematics. Prints
the base's time over each case's, above 1 if the case is faster, with Student's 95 % interval over
launches. All processes are stopped but the one that is timed. With `--clock cpu` it compares the
processor's time, which foreign load disturbs less; use it with machine.num_threads=1, since idle
threads may spin.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contract.case import IDIOMATIC
from benchmarks.contract.plan import Plan
from benchmarks.planning.catalog import PROJECT_ROOT, Catalog, discover
from benchmarks.planning.planner import PlanRequest, make_plan
from benchmarks.running.preparation import Folders, prepare_data
from benchmarks.statistics.launch_ratio import experienced_log_ratio
from benchmarks.statistics.ratios import paired_ratio
from benchmarks.storage.store import Store
from tests.overhead.test_harness import BareLoop, Setup

EXTENSION = Path(__file__).with_name("straightforward")
DEFAULT_AXES = ("workload=resnet50_train", "precision=fp32")


@dataclass(frozen=True)
class Options:
    """How long and by which clock to measure."""

    num_launches: int
    num_rounds: int
    block_s: float
    clock: str


def main() -> None:
    """Measure the cases of the command line and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arguments", nargs="+", metavar="CASE|AXIS=VALUE")
    parser.add_argument("--base", required=True, metavar="CASE")
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--block-s", type=float, default=0.6)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    args = parser.parse_intermixed_args()
    given = {one.partition("=")[0]: one for one in (*DEFAULT_AXES, *args.arguments) if "=" in one}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the processes that are stopped
    names = [args.base, *(one for one in args.arguments if "=" not in one)]
    options = Options(args.launches, args.rounds, args.block_s, args.clock)
    with tempfile.TemporaryDirectory() as folder:
        setups = {name: _setup(name, tuple(given.values()), Path(folder)) for name in names}
        cohorts = [_step_times(setups, options, seed) for seed in range(options.num_launches)]
    for name in names:
        medians = [1e3 * statistics.median(cohort[name]) for cohort in cohorts]
        logs = [experienced_log_ratio(cohort[args.base], cohort[name]) for cohort in cohorts]
        ratio = paired_ratio(logs)
        low, high = ("?" if one is None else f"{one:.3f}" for one in (ratio.low, ratio.high))
        steps = ", ".join(f"{median:.1f}" for median in medians)
        print(f"{name:36} {ratio.ratio:.3f} [{low}, {high}]  median step of each launch {steps} ms")


def _setup(name: str, axes: tuple[str, ...], folder: Path) -> Setup:
    """What a loop over this case runs."""
    framework, execution, *recipes = name.split("/")
    recipe = recipes[0] if recipes else IDIOMATIC
    own = (f"framework={framework}", f"execution={execution}", f"recipe={recipe}")
    catalog: Catalog = discover([EXTENSION])
    folders = Folders(cache=PROJECT_ROOT / ".dyno", logs=folder)
    plan: Plan = make_plan(
        PlanRequest((*axes, *own), fresh=True), catalog=catalog, store=Store(folder / "runs")
    )
    (cell,) = (one for one in plan.cells if one.case.way.recipe == recipe)
    assert cell.action == "run", cell.reason
    prepare_data(catalog, cell.case.work, folders, timeout_s=300)
    return Setup(cell.case.way.framework, replace(plan, cells=(cell,)), catalog, folders)


def _step_times(setups: dict[str, Setup], options: Options, seed: int) -> dict[str, list[float]]:
    """Seconds of a step in each round, by case, from one launch of each, alive together."""
    turns = random.Random(seed)
    loops: dict[str, BareLoop] = {}
    try:
        for name in turns.sample(list(setups), len(setups)):
            setup = setups[name]
            launch_id = f"peer{seed}-{len(loops)}"
            loops[name] = BareLoop(*setup.launch(launch_id), setup.folders.logs)
            loops[name].send(signal.SIGSTOP)
        first = {name: _turn(loop, num_steps=2, clock="wall") for name, loop in loops.items()}
        times: dict[str, list[float]] = {name: [] for name in setups}
        for _ in range(options.num_rounds):
            for name in turns.sample(list(loops), len(loops)):
                num_steps = max(1, round(options.block_s / first[name]))
                times[name].append(_turn(loops[name], num_steps=num_steps, clock=options.clock))
    finally:
        for loop in loops.values():
            loop.send(signal.SIGKILL)
    return times


def _turn(loop: BareLoop, *, num_steps: int, clock: str) -> float:
    """Seconds of a step, of a block that runs while the other processes are stopped."""
    loop.send(signal.SIGCONT)
    duration_ns = loop.cpu_ns(num_steps) if clock == "cpu" else loop.step_ns(num_steps)
    loop.send(signal.SIGSTOP)
    return duration_ns / num_steps / 1e9


if __name__ == "__main__":
    main()
