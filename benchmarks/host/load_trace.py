"""What other processes ran while each sample of a turn was timed.

A load that comes and goes spoils some of a turn's samples and leaves the others as good as ever.
Once threads of other processes were seen to run, they are read many times a second while a turn is
timed; what all of these readings add up to is held against the whole turn's counters.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from benchmarks.contract.message import BlockDone
from benchmarks.host import cpu_time

PERIOD_S = 0.01
"""Seconds between two readings. A sample that is shorter counts as disturbed by all that ran in the
reading around it.
"""
MAX_PREPARATION_SHARE = 0.02
"""Largest share of a turn that may lie between its samples: it is not known where."""


class Moment(NamedTuple):
    """The CPU time of some threads at one moment."""

    at_ns: int
    """By `time.monotonic_ns`, as the time stamps of messages."""
    ran_ns: int


class LoadTrace:
    """Reads the CPU time of some threads from now on, until `end`; nothing without a thread."""

    def __init__(self, threads: Collection[int]) -> None:
        self._threads = tuple(threads)
        self._moments: list[Moment] = []
        self._has_ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        if self._threads:
            self._reader.start()

    def end(self) -> Sequence[Moment]:
        """All readings, in order."""
        if self._threads:
            self._has_ended.set()
            self._reader.join()
        return self._moments

    def _read(self) -> None:
        while True:
            is_last = self._has_ended.is_set()
            ran_ns = cpu_time.threads_ran_ns(self._threads)
            self._moments.append(Moment(time.monotonic_ns(), ran_ns))
            if is_last:
                return
            self._has_ended.wait(PERIOD_S)


def disturbed_samples(
    done: BlockDone, moments: Sequence[Moment], *, limit: float
) -> tuple[int, ...] | None:
    """The indexes of a turn's samples in which the threads ran for more than a share of its time.

    `limit` is that share, of one CPU. Of a reading's interval that a sample shares with others, all
    counts for each of them. None if it is not known when the samples were.
    """
    samples_ns = done.request_ns or done.sample_ns
    if len(moments) < 2 or done.preparation_ns > MAX_PREPARATION_SHARE * done.duration_ns:
        return None
    ends_ns = round(done.sent_s * 1e9) - done.duration_ns
    found = []
    for index, sample_ns in enumerate(samples_ns):
        begins_ns, ends_ns = ends_ns, ends_ns + sample_ns
        ran_ns = sum(
            later.ran_ns - earlier.ran_ns
            for earlier, later in itertools.pairwise(moments)
            if later.at_ns > begins_ns and earlier.at_ns < ends_ns
        )
        if ran_ns > limit * sample_ns:
            found.append(index)
    return tuple(found)
