"""Holds a worker's report against what the parent saw: its own clock, counts and threads.

A worker tells its durations itself. A clock that runs slowly, or a shorter duration in the message,
would pass every check that is made in the worker.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.contract.message import BlockDone, Turn
from benchmarks.contract.record import Block, wrong_samples

MIN_SHARE = 0.7
"""Smallest share of the turn that the timed steps may take. The rest of a turn is messages, and
work between the clocks."""
MIN_SINGLE_SHARE = 0.6
"""The same for a single turn, lower: now and then the parent hears late."""
USUAL = 0.8
"""A turn is odd only if its duration is also below this share of the others': then it was not
just the rest of the turn that took long."""
MAX_ODD_SHARE = 0.2
"""Share of the turns that may be odd; one always may."""
TURN_NS, REQUEST_NS = 5_000_000, 300_000
"""What a turn, and each request in it, may take beside: messages, and work between the clocks."""
MAX_SHARE = 1.02
"""Largest share of the turn that they may take at all: the rest is for the two clocks."""
SHORT = 4
"""A turn of less than this many times TURN_NS is too short to count threads in."""
SPARE_THREADS, SPARE_SHARE = 0.75, 0.3
"""Threads beyond those asked for that may have work on average: the first number, or this share of
them if that is more. TensorFlow hands work from inter-op to as many intra-op threads: up to 2.49
had work if 2 were asked for, and up to 4.85 if 4 were."""
SPARE_WHEN_BUSY = 2
"""Factor on the spare threads if every turn was disturbed: threads that hand work to one another
then wait for a processor at the same time."""


def wrong_count(done: BlockDone, turn: Turn) -> str | None:
    """How a block's report differs from the turn that was granted, or None."""
    for what, told, granted in (
        ("round", done.round, turn.round),
        ("steps", done.num_steps, turn.num_steps),
    ):
        if told != granted:
            return f"reported {what} {told} for a turn of {what} {granted}"
    if done.duration_ns <= 0:
        return f"reported a duration of {done.duration_ns} ns"
    num_told = len(done.sample_ns)
    if turn.steps_per_sample and num_told != turn.num_steps // turn.steps_per_sample:
        return f"reported {num_told} samples of {turn.steps_per_sample} steps, of {turn.num_steps}"
    wrong = wrong_samples(done)
    return f"reported {wrong}" if wrong else None


def wrong_durations(blocks: Sequence[Block], *, prepares: bool) -> str | None:
    """Why the durations of these blocks cannot be right by the parent's clock, or None.

    The undisturbed turns count: their median, their sum, and the number of those that are odd. If
    none is undisturbed, the median of all counts. `prepares` tells whether work before the
    requests, such as a prompt, may take time of its own; how long is the worker's word.
    """
    seen = [block for block in _undisturbed(blocks) if block.elapsed_ns]
    if not seen:
        return None
    whole = statistics.median(block.duration_ns / _elapsed_ns(block) for block in seen)
    if whole > MAX_SHARE:
        return (
            f"the steps are reported to take {whole:.2f} times as long as the turns in which they"
            " were made, by the parent's clock: the worker's clock or report is wrong"
        )
    timed = [one for block in seen if (one := _timed(block, prepares=prepares)) is not None]
    return _too_short(timed, is_disturbed=not seen[0].is_calm) if timed else None


class _Timed(NamedTuple):
    """The steps of one turn."""

    told_ns: int
    """Their duration as the worker reports it."""
    expected_ns: float
    """What is left for them of the turn's duration."""

    @property
    def share(self) -> float:
        return self.told_ns / self.expected_ns


def _too_short(timed: Sequence[_Timed], *, is_disturbed: bool) -> str | None:
    """Why the durations that were told are too short, or None.

    Of the sum the longer half of the turns is left out: dyno itself may have been stopped in them.
    """
    share = statistics.median_high(one.share for one in timed)
    if not is_disturbed:
        kept = sorted(timed, key=lambda one: one.expected_ns)[: (len(timed) + 1) // 2]
        share = min(share, sum(one.told_ns for one in kept) / sum(one.expected_ns for one in kept))
    usual_ns = USUAL * statistics.median(one.told_ns for one in timed)
    odd = [one for one in timed if one.share < MIN_SINGLE_SHARE and one.told_ns < usual_ns]
    num_allowed = max(1, int(MAX_ODD_SHARE * len(timed)))
    if share < MIN_SHARE:
        return (
            f"the steps are reported to take {share:.0%} of the time that the parent measured for"
            f" them (at least {MIN_SHARE:.0%} expected): the worker's clock or report is wrong"
        )
    if not is_disturbed and len(odd) > num_allowed:
        return (
            f"in {len(odd)} of {len(timed)} turns the steps are reported to take less than"
            f" {MIN_SINGLE_SHARE:.0%} of the time that the parent measured for them (in at most"
            f" {num_allowed} expected): the worker's clock or report is wrong"
        )
    return None


def too_many_threads(blocks: Sequence[Block], *, num_threads: int) -> str | None:
    """How many threads had work on average, if these are more than were asked for."""
    seen = [
        block
        for block in _undisturbed(blocks)
        if block.runnable_ns is not None and _elapsed_ns(block) >= SHORT * TURN_NS
    ]
    elapsed_ns = sum(_elapsed_ns(block) + TURN_NS for block in seen)
    if not elapsed_ns:
        return None
    num_busy = sum(block.runnable_ns or 0 for block in seen) / elapsed_ns
    num_spare = max(SPARE_THREADS, SPARE_SHARE * num_threads)
    if not seen[0].is_calm:
        num_spare *= SPARE_WHEN_BUSY
    if num_busy <= num_threads + num_spare:
        return None
    return f"asked to run on {num_threads} CPU thread(s), had work for {num_busy:.2f} on average"


def _undisturbed(blocks: Sequence[Block]) -> Sequence[Block]:
    return [one for one in blocks if one.is_calm] or blocks


def _timed(block: Block, *, prepares: bool) -> _Timed | None:
    """What is held of a turn: its steps take what is left of it.

    None if the turn is so short that what it may take beside is most of it.
    """
    beside_ns = TURN_NS + REQUEST_NS * len(block.request_ns)
    elapsed_ns = _elapsed_ns(block) - (block.preparation_ns if prepares else 0)
    if elapsed_ns < 2 * beside_ns:
        return None
    return _Timed(block.duration_ns, elapsed_ns - beside_ns)


def _elapsed_ns(block: Block) -> int:
    return block.elapsed_ns or 0
