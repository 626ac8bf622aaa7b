"""One timed launch: self-tests, proof of the first step, warm-up, turns, proof repeated.

Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import time

import numpy as np

from benchmarks.contract.message import (
    Begin,
    BlockDone,
    Finish,
    Finished,
    Imported,
    LaunchRequest,
    Ready,
    Turn,
)
from benchmarks.contract.protocol import NUM_FIRST_STEPS
from benchmarks.contract.record import DISTURBED
from benchmarks.equivalence.checks import integer_checks
from benchmarks.worker import fence, memory
from benchmarks.worker.context import LaunchContext, LaunchFailedError, require
from benchmarks.worker.tasks.protocol import Task, create
from benchmarks.worker.warmup import WarmUp, warm_up


class Session:
    """The state of one timed launch."""

    def __init__(self, context: LaunchContext) -> None:
        assert isinstance(context.launch, LaunchRequest)
        self.context = context
        self.launch = context.launch
        self._task: Task
        self._was_reset = False
        self._takes_turns = True

    def run(self) -> None:
        """Go through every phase; LaunchFailedError or any exception ends the launch.

        A launch that filled the compile cache takes no turns: code that was just compiled may be
        slower than the same code from the cache, for as long as the process lives. Nor does one
        that only prepares later ones. Either proves its first step; what it would prove of later
        steps, the launch after it does.
        """
        context = self.context
        context.import_framework()
        self._await_machine()
        fence_s = self._test_framework()
        self._task = create(self.context)
        self._task.load()
        first_steps_ns, cold_cache = self._first_steps()
        is_timed = self.launch.may_be_cold or not cold_cache
        self._takes_turns = is_timed and not self.launch.only_prepares
        step_s = self._test_program()
        warm = self._warm_up(step_s) if self._takes_turns else WarmUp((), step_s, steady=None)
        context.channel.send(
            Ready(
                step_s=warm.step_s,
                fence_s=fence_s,
                first_steps_ns=first_steps_ns,
                cold_cache=cold_cache,
                warmup_ns=warm.mini_blocks_ns,
                steady=warm.steady,
                steps_per_turn=self._task.steps_per_turn,
                evidence=context.evidence,
                settings={
                    "asked": dataclasses.asdict(self.launch.settings),
                    "effective": context.framework.describe(),
                },
            )
        )
        self._take_turns()

    def _await_machine(self) -> None:
        """Wait for `Begin`; until then other launches import at the same time."""
        self.context.channel.send(Imported())
        message = self.context.channel.receive()
        assert isinstance(message, Begin)

    def _first_steps(self) -> tuple[tuple[int, ...], bool | None]:
        """The durations of the first steps, and whether the first one filled the compile cache.

        `Evidence.first_step_s` also includes the first step's preparation, such as a prompt.
        """
        self.context.enter("first_step")
        found = _files(self.launch.settings.cache_folder)
        begin = time.perf_counter()
        durations_ns = [self._timed_step()]
        self.context.evidence.first_step_s = time.perf_counter() - begin
        cached = _files(self.launch.settings.cache_folder)
        self.context.require_placement(self._task.outputs)
        self._task.prove_first()
        num_further = NUM_FIRST_STEPS - 1 if self.context.proven is None else 0
        durations_ns += [self._timed_step() for _ in range(num_further)]
        return tuple(durations_ns), not cached <= found if cached else None

    def _timed_step(self) -> int:
        return self._task.time_steps(1).duration_ns

    def _test_framework(self) -> float:
        """The seconds of an empty fence, after the test that it waits for matmuls of known size.

        If another launch has made it, it is not repeated. It runs before the program is built: the
        program then reuses the memory that the matmuls leave in the allocators, and its peak does
        not grow by it.
        """
        context, tested = self.context, self.launch.tested
        context.enter("self_test")
        if context.proven is not None or tested is not None:
            if context.proven is not None:
                context.evidence.proven_by = context.proven.launch_id
            elif tested is not None:
                context.take_over(tested)
            value = context.framework.put(np.zeros((fence.MIN_SIZE, fence.MIN_SIZE), np.float32))
            return fence.fence_seconds(context.framework, value)
        require(context.check_precision())
        report = fence.check_matmul(context.framework)
        context.evidence.fence = report
        _require_fence(report.failure, report.doubt)
        context.evidence.roof_flop_per_s = report.roof_flop_per_s  # valid only if the fence waits
        return report.fence_s

    def _test_program(self) -> float:
        """The seconds of a step; the fence is also tested on the program itself.

        On one step, in which work that goes on afterwards shows best, and on a block of them, in
        which a device has much queued. A launch that is held to a proven one does not repeat the
        test: work that goes on after a step would show in its audit (`Task.prove_end`). Nor does
        one without turns, of which nothing is timed.
        """
        context = self.context
        context.enter("self_test")
        step_s = self._timed_step() / 1e9
        if context.proven is not None or not self._takes_turns:
            return step_s
        for num_steps in sorted({1, max(1, min(20, round(0.05 / step_s)))}):
            tested = fence.check_program(self._task, context.framework, num_steps=num_steps)
            context.evidence.leftover_share = tested.leftover_share
            _require_fence(tested.failure, tested.doubt)
        return step_s

    def _warm_up(self, step_s: float) -> WarmUp:
        context = self.context
        context.enter("warm_up")
        warm = warm_up(
            self._task.time_steps,
            context.framework,
            protocol=self.launch.protocol,
            rules=self.launch.rules,
            step_s=step_s,
        )
        self._task.begin_turns()
        context.framework.settle()
        context.evidence.num_compilations = context.framework.num_compilations()
        gc.collect()
        gc.freeze()
        self._was_reset = memory.reset_host_peak()
        return warm

    def _take_turns(self) -> None:
        self.context.enter("turn")
        while True:
            message = self.context.channel.receive()
            if isinstance(message, Finish):
                return self._finish()
            assert isinstance(message, Turn)
            self.context.channel.send(self._turn(message))

    def _turn(self, turn: Turn) -> BlockDone:
        compiled = self.context.framework.num_compilations()
        block = self._task.time_steps(turn.num_steps, steps_per_sample=turn.steps_per_sample)
        self._task.keep(block, num_steps=turn.num_steps)
        after = self.context.framework.num_compilations()
        times_requests = self._task.steps_per_turn is not None
        return BlockDone(
            round=turn.round,
            num_steps=turn.num_steps,
            duration_ns=block.duration_ns,
            opening_fence_ns=block.opening_fence_ns,
            num_compilations=None if compiled is None or after is None else after - compiled,
            suspended=block.suspended,
            request_ns=block.sample_ns if times_requests else (),
            sample_ns=() if times_requests else block.sample_ns,
            preparation_ns=block.preparation_ns,
        )

    def _finish(self) -> None:
        context = self.context
        context.enter("finish")
        device = self.launch.settings.device
        peak = memory.peak(context.framework, device=device, was_reset=self._was_reset)
        if self._takes_turns:
            self._task.prove_end()
        if self._takes_turns and context.proven is None:
            require(context.check_precision())
            seen = context.inspect(self._task.program.inspect)
            require(list(integer_checks(seen, precision=self.launch.case.way.precision)))
        context.channel.send(
            Finished(
                evidence=context.evidence,
                peak_memory_bytes=peak.num_bytes if self._takes_turns else None,
                peak_memory_source=peak.source if self._takes_turns else None,
            )
        )


def _require_fence(failure: str | None, doubt: str | None) -> None:
    """LaunchFailedError if the fence returned early, or if its test is undetermined."""
    if failure is not None:
        raise LaunchFailedError("invalid_sync", failure)
    if doubt is not None:
        raise LaunchFailedError(DISTURBED, doubt)


def _files(folder: str) -> frozenset[str]:
    return frozenset(
        os.path.join(path, name) for path, _, names in os.walk(folder) for name in names
    )
