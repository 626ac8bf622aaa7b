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
from benchmarks.contract.record import Block
from benchmarks.host.disturbance import Watch
from benchmarks.host.speed import Probe
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch
from benchmarks.running.listeners import Listener
from benchmarks.running.patience import Patience
from benchmarks.running.stopping import Stopping
from benchmarks.statistics.effort import error_of_rounds
from benchmarks.statistics.launch_ratio import undisturbed_in_turn
from benchmarks.statistics.percentiles import HIGHEST_OF_LAUNCHES, required_samples

MAX_ATTEMPTS = 3
"""Largest number of times that a turn is taken until no declared cause disturbs it."""
FIRST_WAIT_S = 2.0
"""Seconds for which the first round waits for calm; later ones have what the turns have earned."""
MAX_FURTHER_SHARE = 0.5
"""Share of the rounds that may be added to replace those that do not count."""
SPARE_REQUESTS = 1.1
"""Factor on the requests that a percentile needs: rounds are dropped, slow requests may cluster."""
TARGET_SHARE = 1 / 3
"""Rounds go on while the error that they leave in one cohort's ratio is above this share of the
half-width that is asked for. Below it, more launches narrow the interval, and more rounds do not.
"""
FENCES_PER_SAMPLE = 1000
"""A sample lasts at least this many empty fences."""


@dataclass(frozen=True)
class Rounds:
    """The rules for a cohort's rounds."""

    protocol: MeasuringProtocol
    rules: DeviceRules
    seed: int
    num_rounds: int | None = None
    """How many rounds are planned; None: as many as the protocol's time allows."""
    worthwhile_s: float = 0.0
    """Seconds of all launches' turns up to which rounds go on beyond that time, while it is their
    noise that limits the ratios."""

    def go_on(self, lives: Sequence[SupervisedLaunch], turns_s: float) -> bool:
        """Whether it is worthwhile to go on, after turns of so many seconds in all."""
        if self.num_rounds is not None or turns_s >= self.worthwhile_s:
            return False
        error = error_of_rounds(_turns(lives))
        return error is not None and error > TARGET_SHARE * self.protocol.target_half_width


def take_rounds(
    lives: Sequence[SupervisedLaunch], rounds: Rounds, *, stopping: Stopping, progress: Listener
) -> None:
    """Grant turns until enough rounds count, or the protocol's limits are reached.

    On the host each round waits for calm, and a turn that a declared cause disturbed is taken
    again, as long as the cohort's patience lasts.
    """
    order = random.Random(rounds.seed)  # noqa: S311 - an order of turns, no secret
    alike = max((steps_per_sample(live, rounds.rules) for live in lives), default=1)
    turns = {live.launch_id: turn_of(live, rounds, alike=alike) for live in lives}
    protocol = _with_enough_requests(rounds.protocol, lives)
    groups = [live.worker.pid for live in lives]
    patience, probe = Patience(FIRST_WAIT_S, groups), Probe()
    spent_s, turns_s, index, num_valid = 0.0, 0.0, 0, 0
    while alive := [live for live in lives if live.is_alive]:
        order.shuffle(alive)
        if is_host(alive[0].launch.settings.device):
            patience.await_calm()
        begin_s = time.monotonic()
        valid = [
            _take_turn(
                live,
                dataclasses.replace(turns[live.launch_id], round=index),
                position=i,
                num_alive=len(alive),
                patience=patience,
                probe=probe,
            )
            for i, live in enumerate(alive)
        ]
        index, num_valid = index + 1, num_valid + all(valid)
        progress.round_done(index, protocol.max_rounds)
        with suppress(LaunchEndedError):
            alive[-1].tick()
        turns_s += time.monotonic() - begin_s
        spent_s += (time.monotonic() - begin_s) / len(alive)
        is_time_up = spent_s >= protocol.max_launch_s and not rounds.go_on(alive, turns_s)
        if stopping.requested or _is_enough(
            index, num_valid, protocol, is_time_up=is_time_up, planned=rounds.num_rounds
        ):
            return


def _turns(lives: Sequence[SupervisedLaunch]) -> list[list[float]]:
    """Seconds of an undisturbed step of each launch, for each round in which all turns count."""
    of_launches = [
        {
            block.round: undisturbed_in_turn(block.samples_s)
            for block in live.blocks
            if not block.is_disturbed
        }
        for live in lives
    ]
    common = set.intersection(*(set(turns) for turns in of_launches))
    return [[turns[index] for turns in of_launches] for index in sorted(common)]


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


def steps_per_sample(live: SupervisedLaunch, rules: DeviceRules) -> int:
    """The least number of steps in a sample of a launch.

    One if the device computes a step while the host waits, and if it lasts many fences.
    """
    assert live.ready is not None
    least = math.ceil(FENCES_PER_SAMPLE * live.ready.fence_s / live.ready.step_s)
    return max(rules.min_steps_per_sample, least)


def turn_of(live: SupervisedLaunch, rounds: Rounds, *, alike: int = 1) -> Turn:
    """The turn of a launch: its steps fill as many samples as the protocol requires.

    Samples have `alike` steps if a turn has time for so many: the low quantile of single steps is
    below that of the means of several, so that launches with unlike samples do not compare. If each
    step is a request that is timed by itself, the launch gives their number.
    """
    assert live.ready is not None
    if live.ready.steps_per_turn is not None:
        return Turn(0, live.ready.steps_per_turn)
    step_s, target_s = live.ready.step_s, rounds.protocol.block_target_s
    least = steps_per_sample(live, rounds.rules)
    per_sample = max(least, min(alike, math.floor(target_s / step_s)))
    num_samples = rounds.protocol.num_samples(per_sample * step_s)
    return Turn(0, per_sample * num_samples, per_sample)


def _take_turn(
    live: SupervisedLaunch,
    turn: Turn,
    *,
    position: int,
    num_alive: int,
    patience: Patience,
    probe: Probe,
) -> bool:
    """Whether the turn counts in the end; False if a declared cause disturbed it each time."""
    on_host = is_host(live.launch.settings.device)
    for attempt in range(MAX_ATTEMPTS):
        if on_host and (attempt or patience.suspects):
            patience.await_calm()
        probe_ns = [probe.take()] if on_host else []
        watch = Watch(
            live.worker.pid,
            ours=patience.ours,
            num_on_accelerator=0 if on_host else num_alive,
            suspects=patience.suspects if on_host else (),
        )
        try:
            done, elapsed_ns = live.take_turn(turn)
        except LaunchEndedError:
            return True  # this launch has failed; the others' round still counts
        finally:
            watch.end()
        conditions = watch.conditions(done, was_stopped=live.worker.was_stopped)
        patience.suspects |= conditions.suspects
        probe_ns += [probe.take()] if on_host else []
        block = Block(
            round=turn.round,
            order=position,
            num_steps=done.num_steps,
            duration_ns=done.duration_ns,
            opening_fence_ns=done.opening_fence_ns,
            foreign_cpu_share=conditions.foreign_cpu_share,
            flags=conditions.flags,
            request_ns=done.request_ns,
            sample_ns=done.sample_ns,
            preparation_ns=done.preparation_ns,
            elapsed_ns=elapsed_ns,
            runnable_ns=conditions.runnable_ns,
            probe_ns=tuple(probe_ns),
            disturbed_samples=conditions.disturbed_samples,
        )
        live.blocks.append(block)
        patience.earn(0.0 if attempt else elapsed_ns / 1e9)
        if not block.is_disturbed:
            return True
        if attempt + 1 == MAX_ATTEMPTS or not patience.spend(elapsed_ns / 1e9):
            return False
    return False


def _is_enough(
    num_rounds: int,
    num_valid: int,
    p: MeasuringProtocol,
    *,
    is_time_up: bool,
    planned: int | None,
) -> bool:
    """Whether as many rounds count as are planned, or as time allows.

    Rounds that do not count end nothing, until half as many were added as are needed.
    """
    if planned is None:
        needed = p.min_rounds if is_time_up else p.max_rounds
    else:
        needed = min(max(planned, p.min_rounds), p.max_rounds)
    return num_valid >= needed or num_rounds >= math.ceil(needed * (1 + MAX_FURTHER_SHARE))


def median_step_s(live: SupervisedLaunch) -> float | None:
    """Median seconds per step over all blocks; None if there is no block."""
    seconds = [block.duration_ns / block.num_steps / 1e9 for block in live.blocks]
    return statistics.median(seconds) if seconds else None
