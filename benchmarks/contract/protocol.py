"""How long and how often to measure; the presets are files in configs/protocol/.

Standard library only; the dataclass is also the schema against which configurations are checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

PROTOCOL_VERSION = 4
"""Raised by every change to the timed code; results of different versions are not comparable."""

MIN_SAMPLES, SHORT_S = 2, 1.0
"""A turn has at least two samples, and three if they all fit into a second. After the stop before a
turn a step finds cold caches, and memory that its framework had given back: to fault that in again
took up to four times a step's time on a virtual machine. What comes after it is undisturbed."""

NUM_FIRST_STEPS = 3
"""Steps that are timed one by one before the warm-up: the first of them holds the compilation.

A launch that is held to a proven one times the first alone."""

PHASES = (
    "start",
    "import",
    "build",
    "export",
    "load",
    "feed",
    "first_step",
    "self_test",
    "warm_up",
    "turn",
    "finish",
    "follow",
)
"""The phases of a launch in order, then the one that a proof adds; each has a time limit."""

TASK_SETTINGS = ("requests_per_turn", "percentiles")
"""Settings that only some kinds of work depend on: a kind names its own (`TaskSpec.settings`)."""


def default_timeouts_s() -> dict[str, float]:
    """The time limit of each phase, in seconds of the launch's own running time."""
    return {
        "start": 60.0,
        "import": 300.0,
        "build": 300.0,
        "export": 600.0,
        "load": 300.0,
        "feed": 300.0,
        "first_step": 1800.0,
        "self_test": 300.0,
        "warm_up": 600.0,
        "turn": 300.0,
        "finish": 600.0,
        "follow": 1800.0,
    }


@dataclass(frozen=True)
class MeasuringProtocol:
    """How long and how often to measure: one preset, with its overrides applied."""

    name: str = "quick"
    """smoke, quick, standard, rigorous, or a user's own."""
    num_cohorts: int = 3
    """Cohorts, with one launch of each case (two if serial); below 3 nothing is ranked."""
    max_cohorts: int = 8
    """The most cohorts of a case, if it is more than num_cohorts: what is not settled by then stays
    as it is."""
    max_time_s: float = 300.0
    """Seconds of a run after which no cohort beyond num_cohorts begins."""
    target_half_width: float = 0.04
    """Half-width of a ratio's interval at which a case is settled, if its verdict is decided."""
    min_rounds: int = 5
    """Least number of rounds of every launch."""
    max_rounds: int = 20
    """Largest number of rounds of every launch."""
    block_target_s: float = 0.2
    """Seconds that a block should last at least; it has two samples at least."""
    max_launch_s: float = 2.0
    """Seconds of turns after which a launch ends once it has min_rounds, unless the number of its
    rounds was planned from earlier cohorts, or noise makes more of them worthwhile: then they go on
    for as long as launching took, if the run has the time."""
    requests_per_turn: int = 25
    """Requests in each turn of inference, in which each request is timed by itself."""
    percentiles: list[int] = field(default_factory=lambda: [50, 90])
    """Percentiles of latency to be shown. Rounds go on, up to max_rounds, until each launch has the
    samples for those up to p90, and all cohorts together have the samples for the higher ones."""
    min_warmup_steps: int = 10
    """Steps before timing starts, the first three excluded."""
    min_warmup_s: float = 1.0
    """Seconds before timing starts; 0 switches the device's own minimum off as well."""
    max_warmup_s: float = 60.0
    """Seconds after which timing starts anyway; the record then says that it was not steady."""
    warmup_window: int = 10
    """Mini-blocks in each of the two halves of the warm-up's window, whose medians must agree."""
    aa: bool = False
    """Compare the base with a second launch of itself: the ratio of the two must contain 1."""
    seed: int = 0
    """Seed of the order of launches and turns."""
    timeouts_s: dict[str, float] = field(default_factory=default_timeouts_s)
    """Time limit of each phase, seconds."""

    def num_samples(self, sample_s: float) -> int:
        """The samples of a turn, each of which lasts this many seconds."""
        in_short = min(MIN_SAMPLES + 1, math.floor(SHORT_S / sample_s))
        return max(MIN_SAMPLES, in_short, math.ceil(self.block_target_s / sample_s))

    def __post_init__(self) -> None:
        """Refuse values outside their range; ValueError names the field."""
        for name in (
            *("num_cohorts", "max_cohorts", "min_rounds", "max_rounds", "warmup_window"),
            *("requests_per_turn",),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"protocol.{name}={getattr(self, name)}: expected 1 or more")
        if not all(50 <= one < 100 for one in self.percentiles):
            raise ValueError(
                f"protocol.percentiles={list(self.percentiles)}: expected numbers from 50 to 99"
            )
        if self.max_rounds < self.min_rounds:
            raise ValueError(
                f"protocol.max_rounds={self.max_rounds}: expected {self.min_rounds} or more"
                " (protocol.min_rounds)"
            )
        for name in (
            *("block_target_s", "max_launch_s", "max_warmup_s", "max_time_s"),
            "target_half_width",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"protocol.{name}={getattr(self, name)}: expected more than 0")
        unknown = set(self.timeouts_s) - set(PHASES)
        if unknown or not all(limit > 0 for limit in self.timeouts_s.values()):
            raise ValueError(
                f"protocol.timeouts_s={dict(self.timeouts_s)}: expected seconds above 0"
                f" for phases among {', '.join(PHASES)}"
            )

    def timeout_s(self, phase: str) -> float:
        """The time limit of a phase: the preset's, else the default."""
        return self.timeouts_s.get(phase, default_timeouts_s()[phase])
