"""A reference probe: a computation of fixed length, which shows the machine's own speed.

Virtual machines have several speeds, seconds long, that no counter shows: the clock, or the work of
a neighbour on the same core. NumPy, on one thread.
"""

from __future__ import annotations

import time

import numpy as np

TARGET_NS = 2_000_000
NUM_NUMBERS = 4096
"""16 KiB an array: the probe stays in the core's first cache."""


class Probe:
    """Multiplies small arrays, as often as takes about 2 ms when it is made."""

    def __init__(self) -> None:
        self._factors = np.linspace(0.9, 1.1, NUM_NUMBERS, dtype=np.float32)
        self._product = np.empty_like(self._factors)
        self._num_products = 64
        fastest_ns = min(self.take() for _ in range(20))
        self._num_products = max(1, round(self._num_products * TARGET_NS / fastest_ns))

    def take(self) -> int:
        """The nanoseconds that the probe takes now."""
        begin = time.perf_counter_ns()
        for _ in range(self._num_products):
            np.multiply(self._factors, self._factors, out=self._product)
        return time.perf_counter_ns() - begin
