"""A reference probe: a copy of fixed length, which shows the machine's own speed.

Virtual machines have several speeds, seconds long, that no counter shows: neighbours share caches
and memory with them. Over ten readings the duration of a copy followed that of a convolution
network's steps (correlation 0.77); products within the core's first cache hardly did (0.47).
NumPy, on one thread.
"""

from __future__ import annotations

import time

import numpy as np

NUM_BYTES = 2**25
"""More than a core's caches hold: about 2 ms."""


class Probe:
    """Copies an array; it is not used to correct a time, only kept beside it."""

    def __init__(self) -> None:
        self._source = np.ones(NUM_BYTES, dtype=np.uint8)
        self._copy = np.empty_like(self._source)
        self.take()  # the copy's pages are new

    def take(self) -> int:
        """The nanoseconds that the probe takes now."""
        begin = time.perf_counter_ns()
        np.copyto(self._copy, self._source)
        return time.perf_counter_ns() - begin
