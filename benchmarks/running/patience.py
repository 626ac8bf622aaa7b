"""Waits for calm before a turn, and says how long a cohort may go on doing so.

While all of our launches are stopped, every busy moment of our CPUs is another process's.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from benchmarks.host import disturbance

GLANCE_S = 0.02
"""How long the machine is watched before a round; the counters of threads are exact."""
NAP_S = 0.1
"""How long it is watched at a time while it is busy."""


@dataclass
class Patience:
    """The seconds that a cohort may still spend on waiting and on turns that are taken again.

    Every turn earns as many as it takes: a busy machine doubles a cohort's turns, and no more.
    """

    left_s: float
    ours: Collection[int] = ()
    """The process groups of our launches."""
    suspects: frozenset[int] = frozenset()
    """Threads of other processes that were seen to run: a load that may come again."""

    def await_calm(self) -> None:
        """Return once other processes leave our CPUs alone, or when patience is at its end."""
        watched_s = GLANCE_S
        while self.left_s > 0:
            begin_s = time.monotonic()
            if disturbance.is_calm(watched_s, ours=self.ours):
                return
            self.left_s -= time.monotonic() - begin_s
            watched_s = NAP_S

    def earn(self, seconds: float) -> None:
        """Add the length of a turn."""
        self.left_s += seconds

    def spend(self, seconds: float) -> bool:
        """Whether a turn of this length may be taken again; it is then charged for."""
        if seconds > self.left_s:
            return False
        self.left_s -= seconds
        return True
