"""The program of every fake framework: it scales the next batch, and some do it wrongly."""

from __future__ import annotations

import itertools

import numpy as np

from benchmarks.contract.program import Effective

STEP_S = 0.005


class Scaling:
    """Scales batches in a ring."""

    def __init__(self, framework) -> None:
        self.framework = framework
        self.fault = framework.name == "fake_astray"

    def load(self, weights) -> None:
        self.scale = np.array(weights["scale"], self.framework.dtype) + 0.1 * self.fault

    def feed(self, batches) -> None:
        self.batches = itertools.cycle([self.framework.put(one["images"]) for one in batches])

    def step(self):
        self.framework.clock.work(STEP_S)
        self.ready = next(self.batches).astype(self.framework.dtype) * self.scale
        return self.ready

    def read(self):
        return {"batch": self.ready.copy()}

    def inspect(self) -> Effective:
        name = np.dtype(self.framework.dtype).name
        return Effective(parameters=name, activations=name, flop_per_step=None)


def build(problem, framework) -> Scaling:
    return Scaling(framework)
