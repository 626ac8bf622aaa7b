"""The seconds until ratios are known within a half-width: this checkout of Dyno against another.

    python -m tests.overhead.precision_per_minute --out minutes.json --other ../before
    python -m tests.overhead.precision_per_minute --out minutes.json --other ../before --resume

Each series is one `dyno run` with --max-time --seconds in an empty store. It measures further as
its version does by itself; a version that adds no cohorts gets more than it can make. As cohorts
end, their seconds since the command began are noted. Afterwards `dyno show` tells the half-widths,
ln(high/low)/2, that the run would have had if it had ended with each cohort. A half-width is
reached when the median over the ratios falls to it and stays there. The checkouts take turns within
the hour, and which is first changes. Before, each makes its oracles, proofs and compile caches,
untimed. A series that is stopped begins anew with --resume.

With --cells, once for each, other cells: overrides of `dyno run` that both versions know. Further
arguments are overrides for every command. The other checkout needs a `.venv`, which may be a link.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
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
HALF_WIDTHS = (0.15, 0.1, 0.06, 0.04, 0.025)
FURTHER = "protocol.max_cohorts=99"
"""Lets a version that adds cohorts by itself go on; earlier versions refuse the name."""
MANY = "protocol.num_cohorts=99"
RECORDS = "records.jsonl"
EACH_S = 0.5
"""Seconds between looks at the size of a run's records."""
THIS, OTHER = "this", "other"
HEADER = ("cells", "half-width %", "this s", "other s", "other's in this")


@dataclass(frozen=True)
class Step:
    """A run as it was when one of its cohorts ended."""

    seconds: float
    """Since its command began."""
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
    """One run of one checkout for some cells."""

    checkout: str
    cells: str
    repeat: int
    steps: tuple[Step, ...]
    """In the order of time."""

    def seconds_to(self, half_width: float) -> float | None:
        """Until the median half-width falls to this one and stays there; None if it does not."""
        stays = list(
            itertools.takewhile(
                lambda step: step.median_half_width <= half_width, reversed(self.steps)
            )
        )
        return stays[-1].seconds if stays else None


@dataclass(frozen=True)
class Lines:
    """Lines of a run's records that were added at one time."""

    seconds: float
    text: str


def step_of(document: Mapping[str, Any], seconds: float) -> Step:
    """A result; only keys that all versions have are read."""
    widths = {one["case"]: half_width(one) for one in document["ratios"]}
    known = {name: width for name, width in widths.items() if width is not None}
    return Step(seconds, known, len(widths))


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


def prefixes(lines: Sequence[Lines]) -> Iterator[Lines]:
    """The records that were there whenever a cohort had ended, with its seconds.

    A cohort has ended once a record of the next one is written, or the last one of all. Records of
    launches that were interrupted are left out.
    """
    found = [
        (one.seconds, line, json.loads(line)["rec"])
        for one in lines
        for line in one.text.splitlines()
    ]
    counted = [one for one in found if one[2]["status"] != "interrupted"]
    text = ""
    for index, (seconds, line, record) in enumerate(counted):
        text += line + "\n"
        later = counted[index + 1 : index + 2]
        if not later or later[0][2]["cohort_id"] != record["cohort_id"]:
            yield Lines(seconds, text)


def geometric_mean(seconds: Sequence[float]) -> float | None:
    """None without one."""
    return math.exp(sum(map(math.log, seconds)) / len(seconds)) if seconds else None


def rows(found: Sequence[Series], cells: Sequence[str], limit_s: float) -> list[tuple[str, ...]]:
    """The table: for each of the cells and half-widths both times, and their quotient.

    A run that ends without reaching it is marked with >, and counts with its whole time.
    """
    lines: list[tuple[str, ...]] = [HEADER]
    for chosen in cells:
        for target in HALF_WIDTHS:
            times = {
                name: [
                    one.seconds_to(target)
                    for one in found
                    if one.cells == chosen and one.checkout == name
                ]
                for name in (THIS, OTHER)
            }
            lines.append(
                (
                    chosen.rpartition("=")[2],
                    f"{100 * target:g}",
                    *(_shown(times[name], limit_s) for name in (THIS, OTHER)),
                    _quotient(times[THIS], times[OTHER], limit_s),
                )
            )
    return lines


def _shown(times: Sequence[float | None], limit_s: float) -> str:
    return ", ".join(f">{limit_s:.0f}" if one is None else f"{one:.0f}" for one in times) or "?"


def _quotient(this: Sequence[float | None], other: Sequence[float | None], limit_s: float) -> str:
    """How many times as long the other takes: a bound if one of them never reached the target."""
    missed = [None in times for times in (this, other)]
    means = [geometric_mean([one or limit_s for one in times]) for times in (this, other)]
    if all(missed) or means[0] is None or means[1] is None:
        return "?"
    bound = "<" if missed[0] else ">" if missed[1] else ""
    return f"{bound}{shown(means[1] / means[0], '.2f')}"


def own_overrides(checkout: Checkout, overrides: Sequence[str]) -> tuple[str, ...]:
    """What lets this version go on for long; MeasurementFailedError if it cannot plan."""
    with tempfile.TemporaryDirectory() as store:
        for own in ((FURTHER,), (MANY,)):
            ended = dyno(checkout, "plan", "--json", "--store", store, *overrides, *own)
            if ended.exit_code == EXIT_OK:
                return (*own, f"protocol.target_half_width={min(HALF_WIDTHS)}")
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


class _Watch(threading.Thread):
    """Notes when a run's records grow."""

    def __init__(self, store: Path) -> None:
        super().__init__(daemon=True)
        self._store, self._begin_s, self._size = store, time.monotonic(), 0
        self._ended = threading.Event()
        self.lines: list[Lines] = []

    def run(self) -> None:
        while not self._ended.wait(EACH_S):
            self._look()

    def end(self) -> list[Lines]:
        self._ended.set()
        self.join()
        self._look()
        return self.lines

    def _look(self) -> None:
        for path in self._store.glob(f"*/{RECORDS}"):
            if path.stat().st_size > self._size:
                whole = path.read_bytes()[self._size :].rpartition(b"\n")[0] + b"\n"
                self._size += len(whole)
                self.lines.append(Lines(time.monotonic() - self._begin_s, whole.decode()))


def _series(checkout: Checkout, overrides: Sequence[str], limit_s: float) -> tuple[Step, ...]:
    with tempfile.TemporaryDirectory() as store:
        watch = _Watch(Path(store))
        watch.start()
        try:
            dyno_run(checkout, "--store", store, "--max-time", f"{limit_s:g}s", *overrides)
        finally:
            lines = watch.end()
        (records,) = Path(store).glob(f"*/{RECORDS}")
        steps = []
        for prefix in prefixes(lines):
            records.write_text(prefix.text, encoding="utf-8")
            ended = dyno(checkout, "show", "--json", "--store", store)
            steps.append(step_of(json.loads(ended.output), prefix.seconds))
    return tuple(steps)


def _measure(kept: Kept, checkouts: Mapping[str, Checkout], args: argparse.Namespace) -> None:
    done = {(one["repeat"], one["cells"], one["checkout"]) for one in kept.results}
    missing = [one for one in order(args.cells, args.repeats) if one not in done]
    overrides = {}
    for chosen, name in sorted({(chosen, name) for _, chosen, name in missing}):
        asked = (*chosen.split(), *args.overrides)
        overrides[chosen, name] = (*asked, *own_overrides(checkouts[name], asked))
        _prepare(checkouts[name], asked)
    for repeat, chosen, name in missing:
        steps = _series(checkouts[name], overrides[chosen, name], args.seconds)
        kept.add(asdict(Series(name, chosen, repeat, steps)))
        last = f"{100 * steps[-1].median_half_width:.1f} %" if steps else "no cohort"
        print(
            f"{repeat + 1}/{args.repeats} {name} {chosen}: {len(steps)} cohorts, {last}",
            file=sys.stderr,
        )


def main() -> None:
    """Measure the series that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--other", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--cells", action="append", metavar="'KEY=VALUE ...'")
    parser.add_argument("--seconds", type=float, default=480.0, help="of each run")
    parser.add_argument("--repeats", type=int, default=2)
    kept_results.add_arguments(parser)
    args = parser.parse_intermixed_args()
    args.cells = args.cells or list(DEFAULT_CELLS)
    other = Checkout(args.other.absolute())
    if not Path(other.python).exists():
        parser.error(f"--other {args.other}: expected a checkout with an interpreter in .venv")
    checkouts = {THIS: HERE, OTHER: other}
    try:
        settings = {name: vars(args)[name] for name in ("cells", "overrides", "seconds")}
        revisions = {name: checkout.revision() for name, checkout in checkouts.items()}
        kept = kept_results.kept(args, {**settings, "revisions": revisions})
    except ValueError as error:
        parser.error(str(error))
    end_on_sigterm()
    _measure(kept, checkouts, args)
    print(table(rows([series_from(one) for one in kept.results], args.cells, args.seconds)))


if __name__ == "__main__":
    main()
