"""How often Dyno finds a difference where there is none: real frameworks against themselves.

    python -m tests.overhead.aa_runs --out aa.json --runs 40
    python -m tests.overhead.aa_runs --out aa.json --runs 60 --resume

Each run is a `dyno run --fresh` of one cell and its twin, the same program under another name
(`twins` beside this file), with the ordinary verdict: its looks, its further cohorts, its
adjustment by Holm. The cells take turns, and every other run has a busy loop beside it, which
keeps one core busy for --duty of each --period. With --cells, once for each, other cells: overrides
of `dyno run`, in which a framework is named beside its twin. Further arguments are overrides for
every run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.storage.store import Store
from tests.overhead import kept_results
from tests.overhead.busy_loop import busy_beside, refuse_wrong_load
from tests.overhead.dyno_runs import HERE, dyno_run, end_on_sigterm, half_width, median_of
from tests.overhead.kept_results import Kept, shown, table

EXTENSION = Path(__file__).with_name("twins")
TWIN_SUFFIX = "_twin"
DEFAULT_CELLS = tuple(
    f"workload={workload} size={size} framework={name},{name}{TWIN_SUFFIX}"
    f" execution={execution} precision=fp32"
    for workload, size, name, execution in (
        ("resnet50_train", "tiny", "pytorch", "eager"),
        ("resnet50_train", "small", "jax", "compiled"),
        ("resnet50_infer", "tiny", "onnxruntime", "graph"),
        ("resnet50_train", "tiny", "tensorflow", "graph"),
        ("resnet50_train", "small", "pytorch", "eager"),
        ("resnet50_train", "tiny", "jax", "compiled"),
        ("resnet50_infer", "tiny", "openvino", "graph"),
        ("resnet50_train", "small", "tensorflow", "graph"),
    )
)
HEADER = (
    *("", "runs", "comparisons", "false verdicts", "contain 1"),
    *("half-width %", "verdicts", "s a run"),
)


@dataclass(frozen=True)
class Comparison:
    """A framework against its twin."""

    base: str
    case: str
    ratio: float | None
    low: float | None
    high: float | None
    half_width: float | None
    verdict: str
    num_launches: int
    grade: str | None
    """The twin's."""
    statuses: tuple[str, str]
    """The framework's and the twin's: disturbed launches can leave a ratio without an interval."""
    contains_1: bool | None
    """Whether the interval does; None without one."""
    is_false: bool
    """Whether the verdict says that one of the two is faster."""


@dataclass(frozen=True)
class AARun:
    """One run."""

    index: int
    cells: str
    is_busy: bool
    seconds: float
    look: int
    """How often its results were looked at to decide on further cohorts, at least once."""
    comparisons: tuple[Comparison, ...]


def load_of(index: int, num_cells: int) -> tuple[int, bool]:
    """The index of a run's cells, and whether it has the busy loop beside it.

    Two runs in a row share their cells; which of them is the busy one changes from pass to pass.
    """
    turn, second = divmod(index, 2)
    return turn % num_cells, bool(second) != bool(turn // num_cells % 2)


def comparisons_of(document: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """The comparisons of a document's frameworks with their own twins."""
    cells = {cell["case_id"]: cell for cell in document["cells"]}
    return tuple(
        _comparison(one, cells[one["base"]], cells[one["case"]])
        for one in document["ratios"]
        if cells[one["case"]]["framework"] == cells[one["base"]]["framework"] + TWIN_SUFFIX
    )


def _comparison(
    one: Mapping[str, Any], base: Mapping[str, Any], twin: Mapping[str, Any]
) -> Comparison:
    low, high = one["low"], one["high"]
    return Comparison(
        base=one["base"],
        case=one["case"],
        ratio=one["ratio"],
        low=low,
        high=high,
        half_width=half_width(one),
        verdict=one["verdict"],
        num_launches=one["num_launches"],
        grade=twin["grade"],
        statuses=(base["status"], twin["status"]),
        contains_1=None if low is None or high is None else low <= 1 <= high,
        is_false=one["verdict"] in ("faster", "slower"),
    )


def run_from(found: Mapping[str, Any]) -> AARun:
    """A run as it was kept."""
    compared = tuple(
        Comparison(**{**one, "statuses": tuple(one["statuses"])}) for one in found["comparisons"]
    )
    return AARun(**{**found, "comparisons": compared})


def rows(runs: Sequence[AARun]) -> list[tuple[str, ...]]:
    """The table: quiet runs and busy ones."""
    loads = (("quiet", False), ("busy", True))
    return [HEADER, *(_row(name, [r for r in runs if r.is_busy == load]) for name, load in loads)]


def _row(name: str, runs: Sequence[AARun]) -> tuple[str, ...]:
    compared = [one for run in runs for one in run.comparisons]
    contained = [one.contains_1 for one in compared if one.contains_1 is not None]
    widths = [100 * one.half_width for one in compared if one.half_width is not None]
    verdicts = Counter(one.verdict for one in compared)
    return (
        name,
        str(len(runs)),
        str(len(compared)),
        str(sum(one.is_false for one in compared)),
        f"{sum(contained)} of {len(contained)}",
        shown(median_of(widths), ".1f"),
        ", ".join(f"{number} {said}" for said, number in sorted(verdicts.items())) or "none",
        shown(median_of([run.seconds for run in runs]), ".0f"),
    )


def _measured(index: int, args: argparse.Namespace) -> AARun:
    chosen, is_busy = load_of(index, len(args.cells))
    beside = busy_beside(duty=args.duty, period_s=args.period) if is_busy else nullcontext()
    with tempfile.TemporaryDirectory() as folder, beside:
        document, seconds = dyno_run(
            HERE,
            *("--fresh", "--extend", str(EXTENSION), "--store", folder, "protocol=quick"),
            *(*args.cells[chosen].split(), *args.overrides),
        )
        look = max((one.look for one in Store(Path(folder)).records()), default=1)
    found = comparisons_of(document)
    if not found:
        raise ValueError(f"no framework is compared with its twin: --cells {args.cells[chosen]!r}")
    return AARun(index, args.cells[chosen], is_busy, seconds, look, found)


def _measure(kept: Kept, args: argparse.Namespace) -> None:
    for index in range(len(kept.results), args.runs):
        run = _measured(index, args)
        kept.add(asdict(run))
        for one in run.comparisons:
            print(
                f"{index + 1}/{args.runs} {'busy' if run.is_busy else 'quiet'} {one.case}:"
                f" {shown(one.ratio, '.3f')} [{shown(one.low, '.3f')}, {shown(one.high, '.3f')}]"
                f" {one.verdict}, n {one.num_launches}, {run.seconds:.0f} s",
                file=sys.stderr,
            )


def main() -> None:
    """Measure the runs that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--cells", action="append", metavar="'KEY=VALUE ...'")
    parser.add_argument("--duty", type=float, default=0.5)
    parser.add_argument("--period", type=float, default=1.0, metavar="SECONDS")
    kept_results.add_arguments(parser)
    args = parser.parse_intermixed_args()
    args.cells = args.cells or list(DEFAULT_CELLS)
    try:
        refuse_wrong_load(args.duty, args.period)
        settings = {name: vars(args)[name] for name in ("cells", "overrides", "duty", "period")}
        kept = kept_results.kept(args, {**settings, "revision": HERE.revision()})
    except ValueError as error:
        parser.error(str(error))
    end_on_sigterm()
    _measure(kept, args)
    print(table(rows([run_from(one) for one in kept.results])))


if __name__ == "__main__":
    main()
