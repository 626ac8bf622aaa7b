"""The fakes' program that answers requests: honest ones, and one fault each."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from fakes.behaviour import DEFAULT_STEP_S, STEP_S, Adapter, in_turns

from benchmarks.contract.program import Effective

SLOW_EXPORT_S = 0.3


class FakeRequests:
    """Answers with images * weight + bias, and counts the requests of a sequence."""

    def __init__(self, problem: Any, adapter: Adapter) -> None:
        self.name = adapter.name
        self.dtype = adapter.dtype
        self.clock = adapter.clock
        self.step_s = STEP_S.get(self.name, DEFAULT_STEP_S)
        self.length = 3 if problem.case.work.workload == "fake_decode" else 1
        self.file = Path(problem.export_folder) / "model"
        self.known: dict[bytes, np.ndarray] = {}
        self.count = self.next = 0
        self.is_later = self.name == "fake_cheat_later" and adapter.has_been_launched()

    def export(self, weights: Any) -> None:
        kept = weights["weight"][: 1 if self.name == "fake_unfrozen" else None]
        self.file.write_bytes(np.ascontiguousarray(kept).tobytes())
        time.sleep(SLOW_EXPORT_S)

    def load(self, weights: Any) -> None:
        self.weight = np.full(4, np.nan)
        self.weight[: self.artefact_bytes() // 4] = np.frombuffer(
            self.file.read_bytes(), np.float32
        )

    def feed(self, batches: Any) -> None:
        self.images = [np.array(one["images"], self.dtype) for one in batches]
        self.next = 0
        if self.name != "fake_stale":
            self.count = 0

    def prepare(self) -> Any:
        if self.count == self.length and self.name != "fake_stale":
            self.count = 0
            self.next = (self.next + 1) % len(self.images)
        elif self.name == "fake_stale" and self.count and self.count % self.length == 0:
            self.next = (self.next + 1) % len(self.images)
        return None

    def step(self) -> np.ndarray:
        images = self.images[0 if self.name == "fake_cheat_batch" else self.next]
        key = images.tobytes() + bytes([self.count % 256])
        if self.name == "fake_cheat_memory" and key in self.known:
            self.logits = self.known[key]
        else:
            self.clock.work(self.step_s)
            self.logits = self._compute(images)
            self.known[key] = self.logits
        self.count += 1
        if self.name == "fake_cheat_answer":
            return np.roll(self.logits, 1, axis=-1)
        return self.logits

    def read(self) -> dict[str, np.ndarray]:
        return {"logits": self.logits.copy()}

    def inspect(self) -> Effective:
        name = np.dtype(self.dtype).name
        return Effective(parameters=name, activations=name, flop_per_step=1000, folded="nothing")

    def artefact_bytes(self) -> int:
        return self.file.stat().st_size

    def _compute(self, images: np.ndarray) -> np.ndarray:
        bias = 0.0 if self.name == "fake_astray" or self.is_later else 0.25
        if self.name == "fake_cheat_watched" and in_turns() and not self._is_watched():
            bias = 0.0
        logits = images * self.weight + bias + self.count
        return np.asarray(logits, self.dtype)

    def _is_watched(self) -> bool:
        """The withheld requests are fewer than those that are timed."""
        return len(self.images) < 64


def build(problem: Any, framework: Adapter) -> FakeRequests:
    """The answering program of every fake."""
    return FakeRequests(problem, framework)
