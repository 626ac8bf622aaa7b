"""Fakes on a clock of their own: their durations are known exactly, however busy the machine is.

The worker reads its times from the fake's clock, which goes on only while something is computed. A
step of a batch takes STEP_S on one device, and a part of it on each of several.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from fakes import behaviour

from benchmarks.contract.framework import Settings

STEP_S = 0.01
FLOP_PER_S = 1e9
"""Rate of one device's matrix products."""


class Clock:
    """A clock that stands still but for what is computed."""

    def __init__(self) -> None:
        self.now_ns = 0

    def advance(self, seconds: float) -> None:
        self.now_ns += round(1e9 * seconds)

    def replace_the_workers(self) -> None:
        """What the worker measures in this process is from now on this clock's."""
        time.perf_counter_ns = lambda: self.now_ns
        time.perf_counter = lambda: self.now_ns / 1e9


class Adapter(behaviour.Adapter):
    """An honest fake with two devices of each kind, on its own clock."""

    def configure(self, settings: Settings) -> None:
        super().configure(settings)
        self.clock = Clock()
        self.clock.replace_the_workers()

    def devices(self) -> dict[str, int]:
        return {"cpu": 2, "cuda": 2}

    def matmul(self, a: Any, b: Any) -> Any:
        """The product on the first device."""
        self.clock.advance(2 * a.shape[0] * a.shape[1] * b.shape[1] / FLOP_PER_S)
        return super().matmul(a, b)


class Program(behaviour.FakeProgram):
    """The fakes' program, each device with its part of every batch.

    A step takes `overhead_s` beside what is computed.
    """

    def __init__(
        self, adapter: Adapter, *, overhead_s: float = 0.0, learning_rate: float = 0.001
    ) -> None:
        super().__init__(adapter)
        self.overhead_s = overhead_s
        self.learning_rate = learning_rate

    def feed(self, batches: Any) -> None:
        num_devices = self.adapter.settings.num_devices
        self.parts = [np.split(batch["images"], num_devices) for batch in batches]
        self.since_load = 0

    def step(self) -> Any:
        """loss = image * mean(weight), the mean over the devices', and one step down its slope."""
        parts = self.parts[self.since_load % len(self.parts)]
        self.since_load += 1
        self.adapter.clock.advance(self.overhead_s + STEP_S / len(parts))
        image = self.dtype(np.mean([part.mean() for part in parts]))
        self.loss = float(image * self.weight.mean())
        self.gradient = np.full_like(self.weight, image / self.weight.size)
        self.weight -= self.dtype(self.learning_rate) * self.gradient
        return self.loss


def build(problem: Any, framework: Adapter) -> Program:
    """The program of the fakes on a clock of their own."""
    return Program(framework)
