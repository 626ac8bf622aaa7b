"""Holds a worker's report against what the parent saw: its own clock, counts and threads.

A worker tells its durations itself. A clock that runs slowly, or a shorter duration in the message,
would pass every check that is made in the worker.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.contract.message import BlockDone, Turn
from benchmarks.contract.record import INVALIDATING_FLAGS, Block

MIN_SHARE = 0.7
"""Smallest share of the turn that the timed steps may take, of what their number leads to expect.
Honest launches: 0.78 to 1.0 at one step a turn, whose step before it warms up again; 0.96 or more
with many."""
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
    each_ns = done.request_ns
    if each_ns and (len(each_ns), sum(each_ns)) != (done.num_steps, done.duration_ns):
        return (
            f"reported {len(each_ns)} requests in {sum(each_ns)} ns for {done.num_steps} in"
            f" {done.duration_ns} ns"
        )
    return None


def wrong_durations(blocks: Sequence[Block], *, prepares: bool) -> str | None:
    """Why the durations of these blocks cannot be right by the parent's clock, or None.

    The median of the undisturbed turns counts, of all if none is. `prepares` tells whether work
    before the requests, such as a prompt, may take time of its own; how long is the worker's word.
    """
    seen = [block for block in _undisturbed(blocks) if block.elapsed_ns]
    if not seen:
        return None
    shares = [one for block in seen if (one := _share(block, prepares=prepares)) is not None]
    share = statistics.median(shares) if shares else 1.0
    whole = statistics.median(block.duration_ns / _elapsed_ns(block) for block in seen)
    if whole > MAX_SHARE:
        return (
            f"the steps are reported to take {whole:.2f} times as long as the turns in which they"
            " were made, by the parent's clock: the worker's clock or report is wrong"
        )
    if share < MIN_SHARE:
        return (
            f"the steps are reported to take {share:.0%} of the time that the parent measured for"
            f" them (at least {MIN_SHARE:.0%} expected): the worker's clock or report is wrong"
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
    if num_busy <= num_threads + max(SPARE_THREADS, SPARE_SHARE * num_threads):
        return None
    return f"asked to run on {num_threads} CPU thread(s), had work for {num_busy:.2f} on average"


def _undisturbed(blocks: Sequence[Block]) -> Sequence[Block]:
    return [one for one in blocks if not set(one.flags) & set(INVALIDATING_FLAGS)] or blocks


def _share(block: Block, *, prepares: bool) -> float | None:
    """The timed share of a turn, over that of its steps among them and the one before.

    None if the turn is so short that what it may take beside is most of it.
    """
    beside_ns = TURN_NS + REQUEST_NS * len(block.request_ns)
    elapsed_ns = _elapsed_ns(block) - (block.preparation_ns if prepares else 0)
    if elapsed_ns < 2 * beside_ns:
        return None
    expected = block.num_steps / (block.num_steps + 1)
    return block.duration_ns / (elapsed_ns - beside_ns) / expected


def _elapsed_ns(block: Block) -> int:
    return block.elapsed_ns or 0
