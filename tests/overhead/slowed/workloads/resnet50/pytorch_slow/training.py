"""PyTorch's training of ResNet-50, with extra products in each step: a slow-down of known size.

The products' operands are their own, so that no result changes; they run before the real step, on
the same threads. `amounts.json` in the extension folder holds for each framework the number of
products in a step; `tests.overhead.planted_slowdown` measures and writes it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from workloads.resnet50.pytorch import training

IMPLEMENTS = {"resnet50_train"}

AMOUNTS_FILE = Path(__file__).parents[3] / "amounts.json"
PRODUCT_SIZE = 192
"""Rows and columns of the factors: 14 MFLOP a product, about 0.1 ms on two cores."""


def build(problem, framework):
    amounts = json.loads(AMOUNTS_FILE.read_text(encoding="utf-8"))
    real = training.build(problem, framework)
    return SlowedTraining(real, amounts[problem.case.way.framework])


class SlowedTraining:
    """The real program, whose steps make `num_products` products first."""

    def __init__(self, real, num_products):
        self.num_products = num_products
        self._real = real
        self._a, self._b, self._product = (torch.ones(PRODUCT_SIZE, PRODUCT_SIZE) for _ in "abp")
        self.load, self.feed, self.read, self.inspect = (
            *(real.load, real.feed),
            *(real.read, real.inspect),
        )

    def step(self):
        for _ in range(self.num_products):
            torch.mm(self._a, self._b, out=self._product)
        return self._real.step()
