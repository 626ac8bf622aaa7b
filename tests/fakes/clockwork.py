"""Fakes with two devices: a step takes STEP_S on one device, and half of it on two."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes import behaviour

STEP_S = 0.01


class Adapter(behaviour.Adapter):
    """An honest fake with two devices of each kind."""

    def devices(self) -> dict[str, int]:
        return {"cpu": 2, "cuda": 2}


class Program(behaviour.FakeProgram):
    """The fakes' program, each device with its part of every batch.

    A step takes `step_s` on one device, and `overhead_s` beside what is computed.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        step_s: float = STEP_S,
        overhead_s: float = 0.0,
        learning_rate: float = 0.001,
    ) -> None:
        super().__init__(adapter)
        self.step_s = step_s
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
        self.adapter.clock.work(self.overhead_s + self.step_s / len(parts))
        image = self.dtype(np.mean([part.mean() for part in parts]))
        self.loss = float(image * self.weight.mean())
        self.gradient = np.full_like(self.weight, image / self.weight.size)
        self.weight -= self.dtype(self.learning_rate) * self.gradient
        return self.loss
