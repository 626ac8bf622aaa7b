"""The fence's self-test under load: counts of how launches end, honest and lying.

    PYTHONPATH=. .venv/bin/python tests/overhead/fence_under_load.py [--launches 50] [--quiet]

A launch is the self-test alone, the part in which an honest fence was once accused. A process that
has imported its framework makes PER_PROCESS of them: importing takes ten times as long. Beside a
busy loop on each of our CPUs (not with --quiet) no honest launch may end as invalid_sync, and no
lying one as ok; in quiet every lying one must be invalid_sync. Prints the counts, and exits with 1
if one of these does not hold.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.framework import Settings
from benchmarks.worker import fence

HONEST = ("numpy", "pytorch", "jax", "tensorflow")
LYING = ("numpy_lying", "pytorch_lying")
NUM_LIES = 20
PER_PROCESS = 10
LIMIT_S = 300.0


class NumpyFramework:
    """Real matmuls on the real clock, computed at once."""

    def put(self, array: np.ndarray) -> Any:
        return array

    def get(self, value: Any) -> np.ndarray:
        return np.array(value)

    def wait(self, values: Any) -> None:
        """NumPy has computed before it returns."""

    def matmul(self, a: Any, b: Any) -> Any:
        return a @ b


class LyingFramework:
    """Computes what another framework computes on a thread, and does not wait for it."""

    def __init__(self, honest: Any) -> None:
        self.honest, self.queue = honest, ThreadPoolExecutor(1)

    def put(self, array: np.ndarray) -> Any:
        return self.honest.put(array)

    def get(self, value: Any) -> np.ndarray:
        array: np.ndarray = self.honest.get(_result(value))
        return array

    def wait(self, values: Any) -> None:
        """Returns at once."""

    def matmul(self, a: Any, b: Any) -> Any:
        return self.queue.submit(lambda: self.honest.matmul(_result(a), b))


def _result(value: Any) -> Any:
    return value.result() if isinstance(value, Future) else value


class TinyProgram:
    """A program of one chain of matmuls, to be read back."""

    def __init__(self, framework: Any) -> None:
        self.framework = framework
        self.weight = framework.put(np.eye(512, dtype=np.float32))
        self.state = self.weight

    def step(self) -> Any:
        for _ in range(4):
            self.state = self.framework.matmul(self.state, self.weight)
        return self.state

    def read(self) -> dict[str, np.ndarray]:
        return {"weights/weight": self.framework.get(self.state)}


def print_endings(name: str, number: int) -> None:
    """Print how this many self-tests in this process end, each with its reason."""
    name, _, lies = name.partition("_")
    with tempfile.TemporaryDirectory() as folder:
        honest: Any = NumpyFramework() if name == "numpy" else _adapter(name, Path(folder))
        for _ in range(number):
            framework = LyingFramework(honest) if lies else honest
            print(ending(framework), flush=True)
            if lies:
                framework.queue.shutdown(cancel_futures=True)


def ending(framework: Any) -> str:
    """The status with which a launch's self-tests end, and its reason."""
    report = fence.check_matmul(framework)
    if report.failure or report.doubt:
        return f"invalid_sync {report.failure}" if report.failure else f"disturbed {report.doubt}"
    tested = fence.check_program(TinyProgram(framework), framework, num_steps=2)
    if tested.failure or tested.doubt:
        return f"invalid_sync {tested.failure}" if tested.failure else f"disturbed {tested.doubt}"
    return "ok"


def _adapter(name: str, folder: Path) -> Any:
    package = importlib.import_module(f"benchmarks.frameworks.{name}")
    settings = Settings(
        device="cpu",
        num_devices=1,
        execution=package.CAPABILITIES.executions[0],
        precision="fp32",
        num_threads=len(os.sched_getaffinity(0)),
        memory_fraction=1.0,
        cache_folder=str(folder),
        scratch_folder=str(folder),
    )
    os.environ.update(package.environment(settings))
    adapter = importlib.import_module(f"benchmarks.frameworks.{name}.adapter").Adapter()
    adapter.configure(settings)
    return adapter


@contextmanager
def stressed(*, quiet: bool) -> Iterator[None]:
    """A busy loop for each of our CPUs, unless the machine is to be quiet."""
    loop = [sys.executable, "-c", "while True: pass"]
    loops = [] if quiet else [subprocess.Popen(loop) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for one in loops:
            one.kill()
            one.wait()


def launches(name: str, number: int) -> Counter[str]:
    """How many of this many launches ended with each status; reasons go to stderr."""
    found: Counter[str] = Counter()
    while (left := number - found.total()) > 0:
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            "--launches",
            str(min(PER_PROCESS, left)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        lines = done.stdout.splitlines() if done.returncode == 0 else []
        for line in lines or [f"crashed {done.stderr[-300:]}"]:
            found[line.partition(" ")[0]] += 1
            if line != "ok":
                print(f"{name}: {line}", file=sys.stderr)
    return found


def main() -> int:
    """Print the counts; 1 if an honest launch was accused or a lying one passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launches", type=int, default=50)
    parser.add_argument("--lies", type=int, default=NUM_LIES)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--one")
    args = parser.parse_args()
    if args.one:
        print_endings(args.one, args.launches)
        os._exit(0)  # queued lies need not be computed
    faults = 0
    with stressed(quiet=args.quiet):
        for name in (*HONEST, *LYING):
            lies = name in LYING
            found = launches(name, args.lies if lies else args.launches)
            print(f"{name:<14} {dict(found)}", flush=True)
            allowed = {"ok", "disturbed"} if not lies else {"invalid_sync"}
            allowed |= {"disturbed"} if lies and not args.quiet else set()
            faults += sum(number for status, number in found.items() if status not in allowed)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
