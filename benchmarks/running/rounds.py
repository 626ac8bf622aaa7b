"""The rounds of a cohort: its launches are alive together and take turns in random order."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.contract.device import DeviceRules, is_host
from benchmarks.contract.message import Turn
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import INVALIDATING_FLAGS, Block
from benchmarks.host.disturbance import Watch
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch
from benchmarks.running.listeners import Listener
from benchmarks.running.stopping import Stopping
from benchmarks.statistics.intervals import half_width_reached
from benchmarks.statistics.percentiles import HIGHEST_OF_LAUNCHES, required_samples

CHECK_EVERY = 5
"""Number of rounds between two checks of the spread."""
MAX_REDONE_SHARE = 0.25
"""Share of max_rounds (min_rounds if time is up) that may be added to replace invalid rounds."""
SPARE_REQUESTS = 1.1
"""Factor on the requests that a percentile needs: rounds are dropped, slow requests may cluster."""
FENCES_PER_BLOCK = 1000
"""A block lasts at least this many empty fences."""


@dataclass(frozen=True)
class Rounds:
    """The rules for a cohort's rounds."""

    protocol: MeasuringProtocol
    rules: DeviceRules
    seed: int


def take_rounds(
    lives: Sequence[SupervisedLaunch], rounds: Rounds, *, stopping: Stopping, progress: Listener
) -> None:
    """Grant turns until the spread is small enough or the protocol's limits are reached."""
    order = random.Random(rounds.seed)  # noqa: S311 - an order of turns, no secret
    num_steps = {live.launch_id: steps_per_block(live, rounds) for live in lives}
    protocol = _with_enough_requests(rounds.protocol, lives)
    begin, index, num_valid = time.monotonic(), 0, 0
    while alive := [live for live in lives if live.is_alive]:
        order.shuffle(alive)
        num_alive = len(alive)
        turns = [
            _take_turn(live, Turn(index, num_steps[live.launch_id]), i, num_alive)
            for i, live in enumerate(alive)
        ]
        index, num_valid = index + 1, num_valid + all(turns)
        progress.round_done(index, protocol.max_rounds)
        with suppress(LaunchEndedError):
            alive[-1].tick()
        elapsed_s = (time.monotonic() - begin) / len(alive)
        if stopping.requested or _is_enough(alive, index, num_valid, elapsed_s, protocol):
            return


def _with_enough_requests(
    protocol: MeasuringProtocol, lives: Sequence[SupervisedLaunch]
) -> MeasuringProtocol:
    """The protocol with as many rounds as its percentiles of latency need, within max_rounds.

    Percentiles up to HIGHEST_OF_LAUNCHES need enough requests in each launch; for higher ones the
    requests of all cohorts are pooled.
    """
    ready = next((live.ready for live in lives if live.ready), None)
    if ready is None or ready.steps_per_turn is None or not protocol.percentiles:
        return protocol
    needed = max(
        required_samples(one)
        if one <= HIGHEST_OF_LAUNCHES
        else math.ceil(SPARE_REQUESTS * required_samples(one) / protocol.num_cohorts)
        for one in protocol.percentiles
    )
    num_rounds = math.ceil(needed / ready.steps_per_turn)
    least = min(protocol.max_rounds, max(protocol.min_rounds, num_rounds))
    return dataclasses.replace(protocol, min_rounds=least)


def steps_per_block(live: SupervisedLaunch, rounds: Rounds) -> int:
    """The number of steps for a block as long as the protocol, the fence and the device require.

    If each step is a request that is timed by itself, the launch gives the number.
    """
    assert live.ready is not None
    if live.ready.steps_per_turn is not None:
        return live.ready.steps_per_turn
    target_s = max(rounds.protocol.block_target_s, FENCES_PER_BLOCK * live.ready.fence_s)
    return max(rounds.rules.min_steps_per_block, math.ceil(target_s / live.ready.step_s))


def _take_turn(live: SupervisedLaunch, turn: Turn, position: int, num_alive: int) -> bool:
    """Whether the turn counts; False if a declared cause disturbed it."""
    on_host = is_host(live.launch.settings.device)
    watch = Watch(live.worker.pid, num_on_accelerator=0 if on_host else num_alive)
    try:
        done, elapsed_ns = live.take_turn(turn)
    except LaunchEndedError:
        return True  # this launch has failed; the others' round still counts
    conditions = watch.conditions(done, was_stopped=live.worker.was_stopped)
    live.blocks.append(
        Block(
            round=turn.round,
            order=position,
            num_steps=done.num_steps,
            duration_ns=done.duration_ns,
            opening_fence_ns=done.opening_fence_ns,
            foreign_cpu_share=conditions.foreign_cpu_share,
            flags=conditions.flags,
            request_ns=done.request_ns,
            preparation_ns=done.preparation_ns,
            elapsed_ns=elapsed_ns,
            runnable_ns=conditions.runnable_ns,
        )
    )
    return not set(conditions.flags) & set(INVALIDATING_FLAGS)


def _is_enough(
    alive: Sequence[SupervisedLaunch],
    num_rounds: int,
    num_valid: int,
    elapsed_s: float,
    p: MeasuringProtocol,
) -> bool:
    """Whether a limit is reached, or the valid rounds give the requested half-width."""
    is_late = elapsed_s >= p.max_launch_s
    limit = p.min_rounds if is_late else p.max_rounds
    if num_valid >= limit or num_rounds >= math.ceil(limit * (1 + MAX_REDONE_SHARE)):
        return True
    if num_valid < p.min_rounds or num_rounds % CHECK_EVERY:
        return False
    return all(_is_settled(live, p.target_half_width) for live in alive)


def _is_settled(live: SupervisedLaunch, target_half_width: float) -> bool:
    seconds = [
        block.duration_ns / block.num_steps
        for block in live.blocks
        if not set(block.flags) & set(INVALIDATING_FLAGS)
    ]
    return half_width_reached(seconds, target=target_half_width)


def median_step_s(live: SupervisedLaunch) -> float | None:
    """Median seconds per step over all blocks; None if there is no block."""
    seconds = [block.duration_ns / block.num_steps / 1e9 for block in live.blocks]
    return statistics.median(seconds) if seconds else None
