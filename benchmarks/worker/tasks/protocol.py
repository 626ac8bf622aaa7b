"""What a timed launch asks of a program under trial, whether it trains or answers requests.

Standard library, NumPy, the contract and measuring.
"""

from __future__ import annotations

from typing import Any, Protocol

from benchmarks.contract.program import Arrays
from benchmarks.worker.context import LaunchContext, LaunchFailedError
from benchmarks.worker.timing import BlockTime

MIN_SHARE_OF_AUDIT = 0.4
"""Share of the time of a step that is checked which the timed ones take at least. Work that is left
out once nobody looks shows here: a backward pass is two thirds of a step. Above it is what queueing
ahead of a device can save, which is up to a half, and noise."""
NO_ORACLE = "there is no oracle for this work"


class Trial(Protocol):
    """A program, how it is timed, and how it is proven."""

    steps_per_turn: int | None
    """Steps of each turn's block; None where their number follows from a block's length."""
    outputs: Any
    """What the last step returned."""

    def load(self) -> None:
        """Go through the phases that bring weights and batches."""

    def time_steps(self, num_steps: int, *, rewarm: bool) -> BlockTime:
        """The time of as many steps; with `rewarm` one goes untimed before them."""

    def step(self) -> Any:
        """Enqueue one step; what to wait for."""

    def read(self) -> Arrays:
        """What the program holds, as `Program.read`."""

    def prove_first(self) -> None:
        """Prove the step that was just made; LaunchFailedError where it is not the oracle's."""

    def begin_turns(self) -> None:
        """Called between the warm-up and the first turn."""

    def keep(self, block: BlockTime, *, num_steps: int) -> None:
        """Take notice of a timed block."""

    def prove_end(self) -> None:
        """Prove that the timed steps made the work; LaunchFailedError where they did not."""


def require_share(context: LaunchContext, share: float) -> None:
    """LaunchFailedError where the timed steps took this small a share of a checked one's time."""
    context.evidence["share_of_audit"] = share
    if share < MIN_SHARE_OF_AUDIT:
        raise LaunchFailedError(
            "invalid_work",
            f"the timed steps took {share:.0%} of the time of a step that was checked"
            f" (at least {MIN_SHARE_OF_AUDIT:.0%} expected): they left work out",
        )
