"""Faults around a program that several workloads have: its batches, weights and skipped steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def fed_with(program: Any, change: Callable[[Any], Any]) -> Any:
    """Change every batch on its way into the program."""
    feed = program.feed
    program.feed = lambda batches: feed([change(batch) for batch in batches])
    return program


def loaded_with(program: Any, change: Callable[[Any], Any]) -> Any:
    """Change the weights on their way into the program."""
    load = program.load
    program.load = lambda weights: load(change(weights))
    return program


def in_another_order(program: Any) -> Any:
    """Begin with the first batch, and take the others from the end."""
    feed = program.feed
    program.feed = lambda batches: feed([batches[0], *reversed(batches[1:])])
    return program


def only_every_second(training: Any) -> None:
    """Let a class of PyTorch's programs skip its second update, its fourth and so on."""
    own = training._fresh_optimizer

    def fresh(self: Any) -> Any:
        optimizer = own(self)
        step, steps = optimizer.step, []

        def step_or_skip(*arguments: Any) -> None:
            steps.append(1)
            if len(steps) % 2:
                step(*arguments)

        optimizer.step = step_or_skip
        return optimizer

    training._fresh_optimizer = fresh


def never_cleared(training: Any) -> None:
    """Let a class of PyTorch's programs clear gradients at a load alone: each step adds its own."""
    own = training._fresh_optimizer

    def fresh(self: Any) -> Any:
        optimizer = own(self)
        optimizer.zero_grad()
        optimizer.zero_grad = lambda set_to_none=True: None
        return optimizer

    training._fresh_optimizer = fresh


def swap_gate_and_up(weights: Any) -> Any:
    """The weights with each gate's kernel in up's place, and up's in its place."""
    other = {"gate": "up", "up": "gate"}

    def source(name: str) -> str:
        parts = name.split("/")
        return "/".join(other.get(part, part) for part in parts)

    return {name: weights[source(name)] for name in weights}


class SwappedGate:
    """A training program whose gate and up are swapped."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.feed, self.step = program.feed, program.step
        self.inspect = program.inspect

    def load(self, weights: Any) -> None:
        self.program.load(swap_gate_and_up(weights))

    def read(self) -> dict[str, Any]:
        return swap_gate_and_up(self.program.read())
