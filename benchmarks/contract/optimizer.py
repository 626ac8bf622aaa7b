"""Optimizers as mathematics: what a step's weights and moments say about each other.

From the states before and after one step follow its gradient and the change of the weights. So a
program can be held to its own moments, which needs no oracle and is exact in every precision.
Everything works element by element, in float64. NumPy and standard library only.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, NamedTuple

import numpy as np


class State(NamedTuple):
    """A parameter, or the same elements of each of its arrays, before or after a step."""

    weight: np.ndarray
    first: np.ndarray
    """SGD's momentum buffer, Adam's first moment; 0 before step 1."""
    second: np.ndarray | None = None
    """Adam's second moment."""


class Optimizer(ABC):
    """The update of one parameter."""

    decays: Callable[[str], bool]
    """Whether weight decay applies to the parameter of this name."""

    @property
    def gain(self) -> float:
        """The factor with which a gradient enters the first moment."""
        return 1.0

    @abstractmethod
    def gradient(self, name: str, before: State, after: State) -> np.ndarray:
        """The gradient that this step has put into the first moment, without weight decay."""

    @abstractmethod
    def change(self, name: str, before: State, after: State, *, number: int) -> np.ndarray:
        """The change of the weight that follows from the moments after step `number` (from 1)."""

    def second_moment(self, name: str, before: State, after: State) -> np.ndarray | None:
        """The second moment that follows from this step's gradient; None if there is none."""
        del name, before, after
        return None

    @abstractmethod
    def mistakes(self) -> Mapping[str, Optimizer]:
        """Optimizers with a known mistake, each by the mistake's name."""


@dataclass(frozen=True)
class SGD(Optimizer):
    """v = momentum v + g + decay w; w = w - rate v."""

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    decays: Callable[[str], bool] = lambda _: True
    is_nesterov: bool = False
    """Whether the weight moves by g + decay w + momentum v instead (Sutskever et al., 2013)."""
    is_decoupled: bool = False
    """Whether the decay moves the weight itself and is not in v."""

    def gradient(self, name: str, before: State, after: State) -> np.ndarray:
        """What v gained, less the decay."""
        return self._gain(before, after) - self._decay(name) * before.weight

    def change(self, name: str, before: State, after: State, *, number: int) -> np.ndarray:
        """-rate v."""
        del number
        moved = after.first
        if self.is_nesterov:
            moved = self.momentum * after.first + self._gain(before, after)
        if self.is_decoupled:
            moved = moved + self._decay(name) * before.weight
        return -self.learning_rate * moved

    def mistakes(self) -> Mapping[str, Optimizer]:
        """Nesterov's momentum, and a decay beside the momentum."""
        return {
            "the weights move by Nesterov's momentum": dataclasses.replace(self, is_nesterov=True),
            "weight decay moves the weights, beside the momentum (decoupled)": dataclasses.replace(
                self, is_decoupled=True
            ),
        }

    def _gain(self, before: State, after: State) -> np.ndarray:
        return after.first - self.momentum * before.first

    def _decay(self, name: str) -> float:
        return self.weight_decay if self.decays(name) else 0.0


@dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW, Loshchilov and Hutter (2019), algorithm 2, at a constant rate."""

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float = 0.0
    decays: Callable[[str], bool] = lambda _: True
    steps_ahead: float = 0
    """Steps by which the bias correction is ahead, though it begins at that of step 1; infinite:
    there is none; minus infinite: it stays that of step 1."""
    is_epsilon_inside: bool = False
    """Whether epsilon is added to the root before the bias correction."""

    @property
    def gain(self) -> float:
        """1 - beta1."""
        return 1 - self.beta1

    def gradient(self, name: str, before: State, after: State) -> np.ndarray:
        """What the first moment gained, over 1 - beta1."""
        del name
        return (after.first - self.beta1 * before.first) / (1 - self.beta1)

    def second_moment(self, name: str, before: State, after: State) -> np.ndarray | None:
        """beta2 v + (1 - beta2) g^2."""
        if before.second is None:
            return None
        square = np.square(self.gradient(name, before, after))
        found: np.ndarray = self.beta2 * before.second + (1 - self.beta2) * square
        return found

    def change(self, name: str, before: State, after: State, *, number: int) -> np.ndarray:
        """-rate (m / (sqrt(v) + epsilon) + decay w), with m and v corrected for their bias."""
        assert after.second is not None, "AdamW without a second moment"
        first, second = (
            1 - beta ** max(1.0, number + self.steps_ahead) for beta in (self.beta1, self.beta2)
        )
        epsilon = self.epsilon / (math.sqrt(second) if self.is_epsilon_inside else 1)
        moved: np.ndarray = after.first / first / (np.sqrt(after.second / second) + epsilon)
        if self.decays(name):
            moved = moved + self.weight_decay * before.weight
        return -self.learning_rate * moved

    def mistakes(self) -> Mapping[str, Optimizer]:
        """Mistakes of the bias correction and of epsilon."""
        return {
            "Adam's bias correction is missing": dataclasses.replace(self, steps_ahead=math.inf),
            "Adam's bias correction is one step ahead": dataclasses.replace(self, steps_ahead=1),
            "Adam's bias correction is one step behind": dataclasses.replace(self, steps_ahead=-1),
            "Adam's bias correction stays that of step 1": dataclasses.replace(
                self, steps_ahead=-math.inf
            ),
            "Adam's epsilon is added to the uncorrected root": dataclasses.replace(
                self, is_epsilon_inside=True
            ),
        }
