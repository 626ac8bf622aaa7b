"""Runs a checkout's `dyno` as its users do, and reads its documents; for the programs beside this.

Only keys that the documents of earlier versions have too are read from another checkout's.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import EXIT_CASE_FAILED, EXIT_OK
from benchmarks.planning.catalog import PROJECT_ROOT

HAS_DOCUMENT = (EXIT_OK, EXIT_CASE_FAILED)
"""The exit codes of runs that ended by themselves, with a document on stdout."""


class MeasurementFailedError(SystemExit):
    """Ends the program with this message; the results so far are kept."""


@dataclass(frozen=True)
class Checkout:
    """A checkout of Dyno, with an environment in `.venv` or, for this one, that of this process."""

    root: Path

    @property
    def python(self) -> str:
        own = self.root / ".venv/bin/python"
        return str(own) if own.exists() or self.root != PROJECT_ROOT else sys.executable

    def revision(self) -> str:
        """The commit, with a mark if files differ from it; unknown without git."""
        command = ["git", "-C", str(self.root), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or "unknown"


@dataclass(frozen=True)
class Ended:
    """A `dyno` that has ended."""

    exit_code: int
    seconds: float
    output: str


HERE = Checkout(PROJECT_ROOT)


def dyno(checkout: Checkout, *arguments: str) -> Ended:
    """The end of `dyno` with these arguments; it is ended with this process."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [checkout.python, "-m", "benchmarks.cli", *arguments],
        cwd=checkout.root,
        env={**os.environ, "PYTHONPATH": str(checkout.root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        output, _ = process.communicate()
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate()
    return Ended(process.returncode, time.perf_counter() - begin, output)


def dyno_run(checkout: Checkout, *arguments: str) -> tuple[dict[str, Any], float]:
    """The document of `dyno run --json` and its seconds; MeasurementFailedError without one."""
    ended = dyno(checkout, "run", "--json", *arguments)
    if ended.exit_code not in HAS_DOCUMENT:
        raise MeasurementFailedError(
            f"dyno run {' '.join(arguments)}\n"
            f"ended with exit code {ended.exit_code}, expected one of {HAS_DOCUMENT}\n"
            "hint: once the cause is removed, the same command with --resume goes on"
        )
    return json.loads(ended.output), ended.seconds


def half_width(ratio: Mapping[str, Any]) -> float | None:
    """ln(high/low)/2 of a document's ratio; None without an interval."""
    low, high = ratio["low"], ratio["high"]
    return math.log(high / low) / 2 if low and high else None


def median_of(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that what it started is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
