"""The time until ratios are known within a half-width: this checkout of Dyno against another.

    python -m tests.overhead.precision_per_minute --out minutes.json --other ../before
    python -m tests.overhead.precision_per_minute --out minutes.json --other ../before --resume

Each series is `dyno run` with protocol.num_cohorts=3, 4, 5 up to --most in one store, where each
command continues the one before, until the median half-width of the ratios, ln(high/low)/2, is
--half-width or less; its time is that of the commands. The checkouts take turns within the hour,
and which is first changes. Before, each makes its oracles, proofs and compile caches, untimed. A
version that would add cohorts by itself is told not to (protocol.max_cohorts=1). A series that is
stopped begins anew with --resume.

With --cells, once for each, other cells: overrides of `dyno run` that both versions know. Further
arguments are overrides for every command. The other checkout needs a `.venv`, which may be a link.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import EXIT_OK, EXIT_USAGE
from tests.overhead import kept_results
from tests.overhead.dyno_runs import (
    HERE,
    Checkout,
    MeasurementFailedError,
    dyno,
    dyno_run,
    end_on_sigterm,
    half_width,
    median_of,
)
from tests.overhead.kept_results import Kept, shown, table

SUITE = Path(__file__).with_name("precision_suite.yaml")
DEFAULT_CELLS = tuple(
    f"suite={SUITE} workload={workload}" for workload in ("resnet50_train", "transformer_finetune")
)
FEWEST = 3
"""Cohorts below which nothing is ranked."""
ALONE = "protocol.max_cohorts=1"
"""Below num_cohorts: no cohorts beyond these. Earlier versions add none, and refuse the name."""
THIS, OTHER = "this", "other"
HEADER = (
    "cells",
    "checkout",
    "s",
    "cohorts",
    "half-width %",
    "geometric mean s",
    "this in other's",
)


@dataclass(frozen=True)
class Step:
    """One command of a series."""

    num_cohorts: int
    seconds: float
    half_widths: Mapping[str, float]
    """By the case_id of each ratio that has an interval."""
    num_ratios: int

    @property
    def median_half_width(self) -> float:
        """Over all ratios; one without an interval counts as infinitely wide."""
        missing = [math.inf] * (self.num_ratios - len(self.half_widths))
        found = median_of([*self.half_widths.values(), *missing])
        return math.inf if found is None else found


@dataclass(frozen=True)
class Series:
    """The commands of one checkout for some cells, until the target was reached or at the end."""

    checkout: str
    cells: str
    repeat: int
    steps: tuple[Step, ...]
    is_reached: bool

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)


def step_of(document: Mapping[str, Any], num_cohorts: int, seconds: float) -> Step:
    """A command's result; only keys that all versions have are read."""
    widths = {one["case"]: half_width(one) for one in document["ratios"]}
    known = {name: width for name, width in widths.items() if width is not None}
    return Step(num_cohorts, seconds, known, len(widths))


def series_from(found: Mapping[str, Any]) -> Series:
    """A series as it was kept."""
    return Series(**{**found, "steps": tuple(Step(**step) for step in found["steps"])})


def order(cells: Sequence[str], num_repeats: int) -> list[tuple[int, str, str]]:
    """(repeat, cells, checkout) of each series; which checkout is first changes each time."""
    pairs = [(repeat, chosen) for repeat in range(num_repeats) for chosen in cells]
    return [
        (repeat, chosen, checkout)
        for repeat, chosen in pairs
        for checkout in ((THIS, OTHER), (OTHER, THIS))[(repeat + cells.index(chosen)) % 2]
    ]


def geometric_mean(series: Sequence[Series]) -> float | None:
    """Of their seconds; None without one."""
    logs = [math.log(one.seconds) for one in series]
    return math.exp(sum(logs) / len(logs)) if logs else None


def rows(found: Sequence[Series], cells: Sequence[str]) -> list[tuple[str, ...]]:
    """The table: two rows for each of the cells; > before a time at which the target was missed."""
    lines: list[tuple[str, ...]] = [HEADER]
    for chosen in cells:
        both = [
            [one for one in found if one.cells == chosen and one.checkout == name]
            for name in (THIS, OTHER)
        ]
        lines += [
            _row(chosen, THIS, both[0], _quotient(*both)),
            _row(chosen, OTHER, both[1], ""),
        ]
    return lines


def _row(cells: str, name: str, series: Sequence[Series], quotient: str) -> tuple[str, ...]:
    last = [one.steps[-1] for one in series]
    mean = shown(geometric_mean(series), ".0f")
    return (
        cells.rpartition("/")[2],
        name,
        ", ".join(f"{_mark(one)}{one.seconds:.0f}" for one in series),
        ", ".join(str(step.num_cohorts) for step in last),
        ", ".join(f"{100 * step.median_half_width:.1f}" for step in last),
        f"{'' if all(one.is_reached for one in series) else '>'}{mean}",
        quotient,
    )


def _mark(series: Series) -> str:
    return "" if series.is_reached else ">"


def _quotient(this: Sequence[Series], other: Sequence[Series]) -> str:
    """This checkout's geometric mean over the other's, a bound if one of them missed the target."""
    means = [geometric_mean(this), geometric_mean(other)]
    if means[0] is None or means[1] is None:
        return "?"
    missed = [not all(one.is_reached for one in series) for series in (this, other)]
    if all(missed):
        return "?"
    bound = ">" if missed[0] else "<" if missed[1] else ""
    return f"{bound}{means[0] / means[1]:.2f}"


def own_overrides(checkout: Checkout, overrides: Sequence[str]) -> tuple[str, ...]:
    """What keeps this version from adding cohorts; MeasurementFailedError if it cannot plan."""
    with tempfile.TemporaryDirectory() as store:
        for own in ((ALONE,), ()):
            ended = dyno(checkout, "plan", "--json", "--store", store, *overrides, *own)
            if ended.exit_code == EXIT_OK:
                return own
            if ended.exit_code != EXIT_USAGE:
                break
    raise MeasurementFailedError(
        f"dyno plan {' '.join(overrides)} in {checkout.root} ended with exit code"
        f" {ended.exit_code}, expected {EXIT_OK}"
    )


def _prepare(checkout: Checkout, overrides: Sequence[str]) -> None:
    """Make the oracles and proofs, then a cohort as it is timed later, for the compile caches."""
    for own in ("protocol=smoke", "protocol.num_cohorts=1"):
        with tempfile.TemporaryDirectory() as store:
            dyno_run(checkout, "--store", store, *overrides, own)


def _series(
    checkout: Checkout, overrides: Sequence[str], args: argparse.Namespace
) -> tuple[Step, ...]:
    steps: list[Step] = []
    with tempfile.TemporaryDirectory() as store:
        for num_cohorts in range(FEWEST, args.most + 1):
            document, seconds = dyno_run(
                checkout, "--store", store, *overrides, f"protocol.num_cohorts={num_cohorts}"
            )
            steps.append(step_of(document, num_cohorts, seconds))
            if steps[-1].median_half_width <= args.half_width:
                break
    return tuple(steps)


def _measure(kept: Kept, checkouts: Mapping[str, Checkout], args: argparse.Namespace) -> None:
    done = {(one["repeat"], one["cells"], one["checkout"]) for one in kept.results}
    missing = [one for one in order(args.cells, args.repeats) if one not in done]
    overrides = {}
    for chosen, name in sorted({(chosen, name) for _, chosen, name in missing}):
        asked = (*chosen.split(), *args.overrides)
        overrides[chosen, name] = (*asked, *own_overrides(checkouts[name], asked))
        _prepare(checkouts[name], overrides[chosen, name])
    for repeat, chosen, name in missing:
        steps = _series(checkouts[name], overrides[chosen, name], args)
        is_reached = steps[-1].median_half_width <= args.half_width
        series = Series(name, chosen, repeat, steps, is_reached)
        kept.add(asdict(series))
        print(
            f"{repeat + 1}/{args.repeats} {name} {chosen}: {_mark(series)}{series.seconds:.0f} s,"
            f" {steps[-1].num_cohorts} cohorts, median half-width"
            f" {100 * steps[-1].median_half_width:.1f} %",
            file=sys.stderr,
        )


def main() -> None:
    """Measure the series that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--other", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--cells", action="append", metavar="'KEY=VALUE ...'")
    parser.add_argument("--half-width", type=float, default=0.04)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, default=10, help="cohorts at which a series ends")
    kept_results.add_arguments(parser)
    args = parser.parse_intermixed_args()
    args.cells = args.cells or list(DEFAULT_CELLS)
    other = Checkout(args.other.absolute())
    if not Path(other.python).exists():
        parser.error(f"--other {args.other}: expected a checkout with an interpreter in .venv")
    if args.most < FEWEST:
        parser.error(f"received --most {args.most}, expected {FEWEST} or more")
    checkouts = {THIS: HERE, OTHER: other}
    try:
        settings = {name: vars(args)[name] for name in ("cells", "overrides", "half_width", "most")}
        revisions = {name: checkout.revision() for name, checkout in checkouts.items()}
        kept = kept_results.kept(args, {**settings, "revisions": revisions})
    except ValueError as error:
        parser.error(str(error))
    end_on_sigterm()
    _measure(kept, checkouts, args)
    print(table(rows([series_from(one) for one in kept.results], args.cells)))


if __name__ == "__main__":
    main()
