"""How often Dyno finds a slow-down of known size, and how far its estimate is from the truth.

    python -m tests.overhead.planted_slowdown --out slow.json --runs 10
    python -m tests.overhead.planted_slowdown --out slow.json --runs 20 --resume
    python -m tests.overhead.planted_slowdown --out standard.json --protocol standard \
        --frameworks pytorch_slow5,pytorch_slow3

The frameworks of `slowed` beside this file are PyTorch with extra products in each step. First
their number is adjusted until the steps take 10, 5 or 3 % longer, within .5 %: in one process that
makes steps with the products and without in turns. What a last measurement of --pairs such steps
finds is the truth: the median of the ratios, with its standard error. Then each run is a
`dyno run --fresh` of pytorch and a slowed one. Further arguments are overrides for every run.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.message import encode
from benchmarks.host.lock import machine_lock
from benchmarks.planning.catalog import PROJECT_ROOT, discover
from benchmarks.planning.planner import PlanRequest, make_plan
from benchmarks.running.preparation import (
    Folders,
    command_of,
    launch_of,
    lock_folder,
    prepare_data,
)
from benchmarks.storage.store import Store
from tests.overhead import kept_results
from tests.overhead.dyno_runs import (
    HERE,
    MeasurementFailedError,
    dyno_run,
    end_on_sigterm,
    half_width,
    median_of,
)
from tests.overhead.kept_results import Kept, shown, table

EXTENSION = Path(__file__).with_name("slowed")
AMOUNTS_FILE = "amounts.json"
WANTED = {"pytorch_slow10": 1.10, "pytorch_slow5": 1.05, "pytorch_slow3": 1.03}
"""The time of a slowed step over that of a plain one."""
BASE = "pytorch"
TOLERANCE = 0.005
FIRST_AMOUNT = 40
LEAST_ERROR = 1e-4
"""Standard error that a try is taken to have at least."""
MAX_TRIES = 12
PAIRS_OF_A_TRY = 60
PAIRS_IN_BLOCK = 10
"""Neighbours are alike, so that the bootstrap draws this many together."""
HEADER = (
    *("", "true ratio", "runs", "found", "wrong", "estimate"),
    *("bias %", "covered", "half-width %", "s a run"),
)

Measure = Callable[[int, int], Sequence[Sequence[int]]]
"""From a number of products and of pairs to [slowed_ns, plain_ns] of each pair."""


@dataclass(frozen=True)
class Truth:
    """A slowed program's step over the plain one's."""

    num_products: int
    num_pairs: int
    slowdown: float
    """The median ratio of a slowed step's time to that of a plain one."""
    standard_error: float


@dataclass(frozen=True)
class SlowRun:
    """One run of pytorch and a slowed one."""

    framework: str
    seconds: float
    ratio: float | None
    low: float | None
    high: float | None
    half_width: float | None
    verdict: str
    num_launches: int
    status: str
    """The slowed case's."""
    parity: str
    """The slowed case's."""


def truth_of(pairs: Sequence[Sequence[int]], num_products: int) -> Truth:
    """The median of the pairs' ratios; its error by a bootstrap of blocks of neighbours."""
    ratios = np.array([slowed / plain for slowed, plain in pairs])
    blocks = np.array_split(ratios, max(2, len(ratios) // PAIRS_IN_BLOCK))
    draws = np.random.default_rng(0)
    medians = [
        np.median(
            np.concatenate([blocks[i] for i in draws.integers(len(blocks), size=len(blocks))])
        )
        for _ in range(1000)
    ]
    return Truth(num_products, len(pairs), float(np.median(ratios)), float(np.std(medians)))


def calibrated(wanted: float, measure: Measure, *, num_pairs: int) -> Truth:
    """The truth of the first amount that is as wanted in a try, and in a measurement after it.

    MeasurementFailedError if there is none after MAX_TRIES.
    """
    amount, tries = FIRST_AMOUNT, []
    for _ in range(MAX_TRIES):
        tries.append(truth_of(measure(amount, PAIRS_OF_A_TRY), amount))
        if _is_as_wanted(tries[-1], wanted):
            tries.append(truth_of(measure(amount, num_pairs), amount))
            if _is_as_wanted(tries[-1], wanted):
                return tries[-1]
        amount = next_amount(tries, wanted)
    made = "; ".join(
        f"{one.num_products} products: {one.slowdown:.4f} +- {one.standard_error:.4f}"
        for one in tries
    )
    raise MeasurementFailedError(
        f"no number of products slows a step to {wanted:g} times its time: {made}\n"
        "hint: measure on a quieter machine, or at a larger size, whose steps take longer"
    )


def _is_as_wanted(found: Truth, wanted: float) -> bool:
    return abs(found.slowdown - wanted) <= TOLERANCE


def next_amount(tries: Sequence[Truth], wanted: float) -> int:
    """The products that would be as wanted if each took what it took in all tries together.

    Tries weigh by their precision. At most four times as many as in the largest try.
    """
    most = 4 * max(one.num_products for one in tries)
    weights = [(one.num_products / max(one.standard_error, LEAST_ERROR)) ** 2 for one in tries]
    shares = [(one.slowdown - 1) / one.num_products for one in tries]
    share = sum(map(math.prod, zip(weights, shares, strict=True))) / sum(weights)
    return most if share <= 0 else min(most, max(1, round((wanted - 1) / share)))


def bias_of(runs: Sequence[SlowRun], truth: Truth) -> tuple[float, float] | None:
    """Mean estimate over the true ratio, minus 1, with its standard error; None below two runs."""
    logs = [math.log(run.ratio * truth.slowdown) for run in runs if run.ratio is not None]
    if len(logs) < 2:
        return None
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    return math.expm1(statistics.fmean(logs)), math.hypot(
        error, truth.standard_error / truth.slowdown
    )


def run_of(framework: str, document: Mapping[str, Any], seconds: float) -> SlowRun:
    """A run as its document shows it."""
    cell = next(one for one in document["cells"] if one["framework"] == framework)
    ratio = next(one for one in document["ratios"] if one["case"] == cell["case_id"])
    return SlowRun(
        framework,
        seconds,
        ratio=ratio["ratio"],
        low=ratio["low"],
        high=ratio["high"],
        half_width=half_width(ratio),
        verdict=ratio["verdict"],
        num_launches=ratio["num_launches"],
        status=cell["status"],
        parity=cell["parity"],
    )


def rows(runs: Sequence[SlowRun], truths: Mapping[str, Truth]) -> list[tuple[str, ...]]:
    """The table: a row for each slowed framework."""
    return [
        HEADER,
        *(
            _row(name, truth, [run for run in runs if run.framework == name])
            for name, truth in truths.items()
        ),
    ]


def _row(name: str, truth: Truth, runs: Sequence[SlowRun]) -> tuple[str, ...]:
    true_ratio = 1 / truth.slowdown
    error = true_ratio * truth.standard_error / truth.slowdown
    estimates = [math.log(run.ratio) for run in runs if run.ratio is not None]
    bias = bias_of(runs, truth)
    inside = [run.low <= true_ratio <= run.high for run in runs if run.low and run.high]
    return (
        name,
        f"{true_ratio:.4f} +- {error:.4f}",
        str(len(runs)),
        str(sum(run.verdict == "slower" for run in runs)),
        str(sum(run.verdict in ("faster", "same") for run in runs)),
        shown(math.exp(statistics.fmean(estimates)) if estimates else None, ".4f"),
        "?" if bias is None else f"{100 * bias[0]:+.2f} +- {100 * bias[1]:.2f}",
        f"{sum(inside)} of {len(inside)}",
        shown(median_of([100 * r.half_width for r in runs if r.half_width is not None]), ".1f"),
        shown(median_of([run.seconds for run in runs]), ".0f"),
    )


def _axes(framework: str, args: argparse.Namespace) -> tuple[str, ...]:
    return (
        *("workload=resnet50_train", f"size={args.size}", f"framework={framework}"),
        *("execution=eager", "precision=fp32", *args.overrides),
    )


def _write_amounts(extension: Path, amounts: Mapping[str, int]) -> None:
    (extension / AMOUNTS_FILE).write_text(json.dumps(amounts), encoding="utf-8")


def _calibrate(kept: Kept, names: Sequence[str], extension: Path, args: argparse.Namespace) -> None:
    """Measure the truths that are missing."""
    missing = [name for name in names if name not in kept.facts]
    if not missing:
        return
    _write_amounts(extension, dict.fromkeys(WANTED, 0))
    with _slowed_loop(extension, _axes(missing[0], args)) as measure:
        for name in missing:
            truth = calibrated(WANTED[name], measure, num_pairs=args.pairs)
            kept.facts[name] = asdict(truth)
            kept.save()
            print(f"{name}: {truth}", file=sys.stderr)


@contextmanager
def _slowed_loop(extension: Path, axes: Sequence[str]) -> Iterator[Measure]:
    """What measures pairs of steps, in a process that has the machine's lock."""
    catalog = discover([extension])
    folders = Folders(cache=PROJECT_ROOT / ".dyno", logs=extension.parent)
    store = Store(extension.parent / "plans")
    plan = make_plan(PlanRequest(tuple(axes), fresh=True), catalog=catalog, store=store)
    (cell,) = plan.cells
    if cell.action != "run":
        raise MeasurementFailedError(f"{cell.case.case_id} cannot run: {cell.reason}")
    prepare_data(catalog, cell.case.work, folders, timeout_s=300)
    launch = launch_of(
        *(plan, catalog, cell.case),
        launch_id="slowed-loop",
        folders=folders,
        num_resident=1,
        oracle=None,
    )
    python = plan.interpreters[cell.case.way.framework].python
    command = command_of(python, catalog, launch, "slowed-loop", folders)
    with machine_lock(lock_folder(plan.machine_config)):
        process = subprocess.Popen(
            [python, "-m", "tests.overhead.slowed_loop", encode(launch).decode()],
            env=dict(command.environment),
            cwd=extension.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            _ask(process, None)
            yield lambda num_products, num_pairs: _ask(process, f"{num_products} {num_pairs}")
        finally:
            process.kill()
            process.communicate()


def _ask(process: subprocess.Popen[str], request: str | None) -> Any:
    """The loop's answer; without a request, its first line."""
    assert process.stdin is not None
    assert process.stdout is not None
    if request is not None:
        process.stdin.write(f"{request}\n")
        process.stdin.flush()
    while line := process.stdout.readline():
        if line.startswith(("[", '"ready"')):
            return json.loads(line)
    raise MeasurementFailedError("the process that measures the slow-down has died")


def _measure(kept: Kept, names: Sequence[str], extension: Path, args: argparse.Namespace) -> None:
    """Make the runs that are missing; the frameworks take turns."""
    for number in range(args.runs):
        for name in names:
            if sum(one["framework"] == name for one in kept.results) > number:
                continue
            with tempfile.TemporaryDirectory() as store:
                document, seconds = dyno_run(
                    HERE,
                    *("--fresh", "--extend", str(extension), "--store", store),
                    *(f"protocol={args.protocol}", *_axes(f"{BASE},{name}", args)),
                )
            run = run_of(name, document, seconds)
            kept.add(asdict(run))
            print(
                f"{number + 1}/{args.runs} {name}: {shown(run.ratio, '.3f')}"
                f" [{shown(run.low, '.3f')}, {shown(run.high, '.3f')}] {run.verdict},"
                f" equal work {run.parity}, {seconds:.0f} s",
                file=sys.stderr,
            )


def main() -> None:
    """Measure the truths and the runs that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--runs", type=int, default=10, help="of each slowed framework")
    parser.add_argument("--frameworks", default=",".join(WANTED), metavar="NAME,...")
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--size", default="small")
    parser.add_argument("--pairs", type=int, default=200, help="of steps, for the truth")
    kept_results.add_arguments(parser)
    args = parser.parse_intermixed_args()
    names = args.frameworks.split(",")
    if not set(names) <= set(WANTED):
        parser.error(f"received --frameworks {args.frameworks}, expected some of {list(WANTED)}")
    try:
        settings = {name: vars(args)[name] for name in ("overrides", "protocol", "size", "pairs")}
        kept = kept_results.kept(args, {**settings, "revision": HERE.revision()})
    except ValueError as error:
        parser.error(str(error))
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        extension = Path(folder, EXTENSION.name)
        shutil.copytree(EXTENSION, extension, ignore=shutil.ignore_patterns("__pycache__"))
        _calibrate(kept, names, extension, args)
        _write_amounts(extension, {name: kept.facts[name]["num_products"] for name in names})
        _measure(kept, names, extension, args)
    truths = {name: Truth(**kept.facts[name]) for name in WANTED if name in kept.facts}
    print(table(rows([SlowRun(**one) for one in kept.results], truths)))


if __name__ == "__main__":
    main()
