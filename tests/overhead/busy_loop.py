"""A foreign load of known size: one process that keeps one core busy for a share of each period.

    python -m tests.overhead.busy_loop --duty 0.5 --period 1.0

Ends with the process that started it, if not before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Phase(NamedTuple):
    """What the loop does now, and for how much longer."""

    is_busy: bool
    left_s: float


def phase_at(elapsed_s: float, *, duty: float, period_s: float) -> Phase:
    """The phase after this time: each period begins with its busy share."""
    within_s = elapsed_s % period_s
    busy_s = duty * period_s
    if within_s < busy_s:
        return Phase(is_busy=True, left_s=busy_s - within_s)
    return Phase(is_busy=False, left_s=period_s - within_s)


def refuse_wrong_load(duty: float, period_s: float) -> None:
    """ValueError unless there is such a load."""
    if not 0 < duty <= 1:
        raise ValueError(f"received --duty {duty:g}, expected more than 0 and at most 1")
    if not period_s > 0:
        raise ValueError(f"received --period {period_s:g}, expected seconds above 0")


@contextmanager
def busy_beside(*, duty: float, period_s: float) -> Iterator[None]:
    """A busy loop of its own beside what is done within."""
    command = [sys.executable, str(Path(__file__)), f"--duty={duty}", f"--period={period_s}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None, "the busy loop has ended too early"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duty", type=float, default=0.5)
    parser.add_argument("--period", type=float, default=1.0, metavar="SECONDS")
    args = parser.parse_args()
    refuse_wrong_load(args.duty, args.period)
    parent, begin = os.getppid(), time.perf_counter()
    while os.getppid() == parent:
        now = time.perf_counter()
        phase = phase_at(now - begin, duty=args.duty, period_s=args.period)
        if phase.is_busy:
            while time.perf_counter() - now < phase.left_s:
                pass
        else:
            time.sleep(phase.left_s)


if __name__ == "__main__":
    main()
