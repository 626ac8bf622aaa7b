"""The fakes' adapter and program: honest ones with a known step time, and one fault each.

A fake brings its own clock, which only its work moves: what is measured of it is known exactly,
however fast the machine is and whatever else runs on it.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.framework import Settings
from benchmarks.contract.program import Effective
from benchmarks.worker import other_load

STEP_S = {"fake_double": 0.02}
"""Step time of each fake on its clock; the default is 10 ms."""
UNSTEADY = (0.0, 0.02, -0.02, 0.01, -0.01, 0.015, -0.015)
"""By how much each launch of the unsteady fake is slower than the default, in turn."""
DEFAULT_STEP_S = 0.01
HONEST_STEPS = {"fake_cheat_watched": 20, "fake_cheat_sly": 1}
"""Honest steps that a cheat makes after each load, because it expects a check then."""
FLOOD_BYTES = 64 * 2**20
FLOP_PER_S = 2e8
"""Rate of matmuls on the fake's clock: low, so that small ones take long enough to time."""
READING_NS = 1000
"""Time on the fake's clock that one reading takes."""
HELD = Path(__file__).parent / "held"
"""The folder by which tests hold the slow fake (`Adapter.dawdle`); without it, none is held."""
COMPANY = Path(__file__).parent / "company"
"""If this folder exists, each launch notes in it whether another one is alive when it begins."""


class Clock:
    """The time in a fake's process."""

    def __init__(self) -> None:
        self._now_ns = 0
        self._lock = threading.Lock()

    def work(self, seconds: float) -> None:
        """Let work take this long on the clock."""
        with self._lock:
            self._now_ns += round(seconds * 1e9)

    def nanoseconds(self) -> int:
        """Replaces time.perf_counter_ns."""
        with self._lock:
            self._now_ns += READING_NS
            return self._now_ns

    def seconds(self) -> float:
        """Replaces time.perf_counter."""
        return self.nanoseconds() / 1e9

    def rule(self) -> None:
        """Make all measurements in this process read this clock, and see no other load."""
        time.perf_counter_ns, time.perf_counter = self.nanoseconds, self.seconds
        other_load._busy_s = lambda cpus: 0.0


def in_turns() -> bool:
    """Whether the worker has finished its warm-up: it freezes the collector's objects then."""
    return gc.get_freeze_count() > 0


class Adapter:
    """A framework whose arrays are NumPy's and whose device is a thread where that is needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = Clock()
        self.clock.rule()
        self.queue = ThreadPoolExecutor(1) if name == "fake_lying_fence" else None
        self.queued_s = 0.0
        self.reached: set[str] = set()
        if name == "fake_segfault_import":
            segfault()

    def dawdle(self, phase: str) -> None:
        """Count the slow fake's launches that reach this phase; wait while a test holds the last.

        A test holds launch 2 in its first turn as long as the file `held/turn.2` exists.
        """
        arrivals = HELD / phase
        if self.name != "fake_slow" or not HELD.is_dir() or phase in self.reached:
            return
        self.reached.add(phase)
        with arrivals.open("ab") as file:
            file.write(b".")
        hold = HELD / f"{phase}.{arrivals.stat().st_size}"
        while hold.exists():
            time.sleep(0.01)

    def configure(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = note_company()
        self.dtype = np.float64 if settings.precision == "fp64" else np.float32
        self.dawdle("import")
        if self.name == "fake_hang_import":
            hang()

    def has_been_launched(self) -> bool:
        """Whether an earlier launch of the same case asked this too; its cache folder tells."""
        note = Path(self.settings.cache_folder) / "launched"
        try:
            note.touch(exist_ok=False)
        except FileExistsError:
            return True
        return False

    def devices(self) -> dict[str, int]:
        return {"cpu": 1, "cuda": 1}

    def put(self, array: np.ndarray) -> np.ndarray:
        return np.array(array)

    def get(self, value: Any) -> np.ndarray:
        self.clock.work(self.queued_s)
        self.queued_s = 0.0
        return np.array(value.result() if isinstance(value, Future) else value)

    def wait(self, values: Any) -> None:
        """The lying fence returns at once, whatever is still queued."""

    def placement(self, value: Any) -> str:
        return "cuda" if self.name == "fake_misplaced" else self.settings.device

    def num_compilations(self) -> int:
        return 0

    def peak_memory_bytes(self) -> int | None:
        return None

    def compile(self, name: str) -> None:
        """The caching fake keeps what it compiles, the self-test's products as well."""
        if self.name == "fake_caching":
            (Path(self.settings.cache_folder) / name).touch()

    def matmul(self, a: Any, b: Any) -> Any:
        self.compile("product")
        product_s = 2 * len(b) ** 3 / FLOP_PER_S
        if self.queue is None:
            self.clock.work(product_s)
            return a.astype(self.dtype) @ b.astype(self.dtype)
        self.queued_s += product_s
        return self.queue.submit(lambda: (a.result() if isinstance(a, Future) else a) @ b)

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution with a 3x3 kernel as nine products, BHWD."""
        height, width = images.shape[1:3]
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(self.dtype)
        return sum(
            padded[:, row : row + height, column : column + width]
            @ kernel[row, column].astype(self.dtype)
            for row in range(3)
            for column in range(3)
        )

    def settle(self) -> None:
        """Nothing runs beside a fake."""

    def describe(self) -> dict[str, str]:
        return {"version": np.__version__}


class FakeProgram:
    """A program of one weight whose step lasts a known time."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.name = adapter.name
        self.step_s = STEP_S.get(self.name, DEFAULT_STEP_S)
        if self.name == "fake_unsteady":  # the cohort's number stands in the name of its folder
            cohort = int(Path(adapter.settings.scratch_folder).name.split("-")[-2])
            self.step_s *= 1 + UNSTEADY[cohort % len(UNSTEADY)]
        self.dtype = adapter.dtype
        self.num_steps = 0
        self.seen_turn = False
        self.images: list[float] = []
        self.usual_images: list[float] = []
        self.factor = self.dtype(1)
        """What the images are multiplied by; a cheat does it in its later launches alone."""
        if self.name == "fake_cheat_later" and adapter.has_been_launched():
            self.factor = self.dtype(0.99)
        if self.name == "fake_build_error":
            raise RuntimeError("no kernel image is available for this operation")
        if self.name == "fake_hang_build":
            hang()
        if self.name == "fake_stray":
            leave_a_daemon()
        adapter.dawdle("build")

    def load(self, weights: dict[str, np.ndarray]) -> None:
        self.weight = np.array(weights["weight"], self.dtype)
        self.base = np.array(weights["base"], self.dtype)
        self.gradient = np.zeros_like(self.weight)
        self.loss = 0.0
        self.since_load = 0
        self.adapter.dawdle("load")
        if self.name == "fake_hang_load":
            hang()
        if self.name == "fake_oom_host":
            exhaust_memory()
        if self.name == "fake_oom_device":
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    def feed(self, batches: Any) -> None:
        assert len(batches) == 8
        if self.name != "fake_cheat_batch" or not self.images:
            self.images = [float(batch["images"].mean()) for batch in batches]
            self.usual_images = self.usual_images or self.images

    def step(self) -> Any:
        self.num_steps += 1
        self._misbehave()
        if self.adapter.queue is not None:
            return self.adapter.queue.submit(self._compute)
        return self._compute()

    def read(self) -> dict[str, np.ndarray]:
        if in_turns():
            self.adapter.dawdle("finish")
        if in_turns() and self.since_load > HONEST_STEPS.get(self.name, self.since_load):
            self.weight -= self.dtype(1e-3)  # as if it had made the steps
        if self.name == "fake_hang_finish" and in_turns():
            hang()
        if self.adapter.queue is not None:
            self.adapter.queue.submit(int).result()
        return {
            "loss": np.array(float("nan") if self._is_broken() else self.loss, self.dtype),
            "weights/weight": self.weight.copy(),
            "optimizer/weight": self.gradient.copy(),
            "frozen/base": self.base.copy(),
        }

    def inspect(self) -> Effective:
        name = np.dtype(self.dtype).name
        return Effective(
            parameters=name,
            gradients=name,
            optimizer=name,
            activations=name,
            flop_per_step=1000,
            layout="NHWC",
        )

    def _compute(self) -> float:
        """loss = image * mean(weight), and a step of 0.001 down its gradient."""
        self.since_load += 1
        if self._leaves_out():
            return self.loss
        self.adapter.clock.work(self.step_s)
        index = 0 if self.name == "fake_cheat_batch" else self.since_load - 1
        image = self.factor * self.dtype(self.images[index % len(self.images)])
        self.loss = float(image * self.weight.mean())
        if self.name == "fake_nan_batch" and self.images != self.usual_images:
            return float("nan")
        if self.name == "fake_cheat_thawed" and in_turns():
            self.base *= self.dtype(0.999)
        if self.name != "fake_cheat_forward":
            self.gradient = np.full_like(self.weight, image / self.weight.size)
            if self.name == "fake_astray":
                self.gradient *= self.dtype(1.01)
            self.weight -= self.dtype(0.001) * self.gradient
        return self.loss

    def _leaves_out(self) -> bool:
        """Whether a cheat makes no step here: once it is timed, but for what follows a load."""
        if not in_turns():
            return False
        if self.name == "fake_cheat_early":
            return True
        return self.since_load > HONEST_STEPS.get(self.name, self.since_load)

    def _is_broken(self) -> bool:
        return self.name == "fake_nan" or (self.name == "fake_nan_later" and in_turns())

    def _misbehave(self) -> None:
        if self.num_steps == 1:
            self.adapter.dawdle("first_step")
            self.adapter.compile("step")
        if in_turns() and not self.seen_turn:
            self.seen_turn = True
            self.adapter.dawdle("turn")
        if self.name == "fake_hang_first_step" or (self.name == "fake_hang_turn" and in_turns()):
            print(f"{self.name} hangs", flush=True)
            hang()
        if self.name == "fake_segfault_turn" and in_turns():
            segfault()
        if self.name == "fake_exit":
            sys.exit(0)
        if self.name == "fake_killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.name == "fake_flood" and self.num_steps == 1:
            flood()


def note_company() -> Any:
    """Have a file named by our process say whether another of the fakes' is alive; the lock."""
    if not COMPANY.is_dir():
        return None
    lock = (COMPANY / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        word = "alone"
    except BlockingIOError:
        word = "not alone"
    (COMPANY / f"process-{os.getpid()}").write_text(word)
    return lock


def segfault() -> None:
    """Read address 0, as a broken extension module does."""
    ctypes.string_at(0)


def hang() -> None:
    """Sleep in C for ever, deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def exhaust_memory() -> None:
    """Allocate and touch memory until this process is killed."""
    taken = []
    while True:
        taken.append(np.ones(16 * 2**20, np.uint8))
        time.sleep(0.02)


def flood() -> None:
    """Write more than a pipe holds, and more than a log keeps."""
    for _ in range(FLOOD_BYTES // 2**20):
        os.write(1, b"x" * (2**20 - 1) + b"\n")


def leave_a_daemon() -> None:
    """Start a process that leaves our group and would outlive us."""
    subprocess.Popen(
        ["sh", "-c", "trap '' TERM HUP; sleep 3600 & wait"],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )


def build(problem: Any, framework: Adapter) -> FakeProgram:
    """The program of every fake."""
    return FakeProgram(framework)
