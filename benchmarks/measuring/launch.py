"""One timed launch: self-tests, the proof of its first step, warm-up, turns, the proof once more.

Standard library, NumPy, the contract and measuring.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import statistics
import time
from typing import Any

from benchmarks.contract.message import (
    Begin,
    BlockDone,
    Finish,
    Finished,
    Imported,
    Launch,
    Ready,
    Turn,
)
from benchmarks.equivalence.checks import frozen_checks
from benchmarks.equivalence.verdict import FAIL, UNPROVEN, Verdict
from benchmarks.measuring import fence, memory, proof
from benchmarks.measuring.oracle import OTHER_BATCH, Oracle
from benchmarks.measuring.stage import LaunchFailedError, Stage, require
from benchmarks.measuring.timing import BlockTime, time_block
from benchmarks.measuring.warmup import WarmUp, warm_up

NUM_FIRST_STEPS = 3
NUM_AUDITS = 5
MIN_SHARE_OF_AUDIT = 0.4
"""Share of the time of a step that is checked which the timed ones take at least. Work that is left
out once nobody looks shows here: a backward pass is two thirds of a step. Above it is what queueing
ahead of a device can save, which is up to a half, and noise."""
NO_ORACLE = "there is no oracle for this work"


class Session:
    """The state of one timed launch."""

    def __init__(self, stage: Stage) -> None:
        assert isinstance(stage.launch, Launch)
        self.stage = stage
        self.launch = stage.launch
        self._outputs: Any = None
        self._was_reset = False
        self._first: proof.StepEvidence | None = None
        self._marks: dict[str, int] = {}
        self._step_ns: list[float] = []

    def run(self) -> None:
        """Go through every phase; LaunchFailedError or any exception ends the launch."""
        stage = self.stage
        self._import_framework()
        fence_s = self._test_framework()
        stage.build()
        stage.enter("load")
        stage.load()
        first_steps_ns, cold_cache = self._first_steps()
        step_s = self._test_program()
        warm = self._warm_up(step_s)
        stage.channel.send(
            Ready(
                step_s=warm.step_s,
                fence_s=fence_s,
                first_steps_ns=first_steps_ns,
                cold_cache=cold_cache,
                warmup_ns=warm.mini_blocks_ns,
                steady=warm.steady,
                evidence=stage.evidence,
                settings={
                    "asked": dataclasses.asdict(self.launch.settings),
                    "effective": stage.framework.describe(),
                },
            )
        )
        self._take_turns()

    def _import_framework(self) -> None:
        """Import it beside others, and wait until they are done."""
        begin = time.perf_counter()
        self.stage.import_framework()
        self.stage.channel.send(Imported(time.perf_counter() - begin))
        message = self.stage.channel.receive()
        assert isinstance(message, Begin)

    def _first_steps(self) -> tuple[tuple[int, ...], bool | None]:
        """The durations of the first steps one by one, and whether the first filled the cache."""
        self.stage.enter("first_step")
        found = _files(self.launch.settings.cache_folder)
        durations_ns = [self._timed_step()]
        cached = _files(self.launch.settings.cache_folder)
        self._check_placement()
        self._check_first_step()
        durations_ns += [self._timed_step() for _ in range(NUM_FIRST_STEPS - 1)]
        return tuple(durations_ns), not cached <= found if cached else None

    def _timed_step(self) -> int:
        block = self._block(num_steps=1, rewarm=False)
        return block.duration_ns

    def _block(self, *, num_steps: int, rewarm: bool) -> BlockTime:
        block = time_block(
            self.stage.program,
            self.stage.framework,
            num_steps=num_steps,
            previous=self._outputs,
            rewarm=rewarm,
        )
        self._outputs = block.outputs
        return block

    def _check_placement(self) -> None:
        asked = self.launch.settings.device
        real = self.stage.framework.placement(self._outputs)
        self.stage.evidence["placement"] = real
        if real != asked:
            raise LaunchFailedError("not_placed", f"asked to run on {asked}, ran on {real}")

    def _check_first_step(self) -> None:
        """The gate: what is timed from here on has made the oracle's step, or nothing is."""
        stage = self.stage
        read = stage.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite after step 1, loss {read['loss']}")
        initial, oracle = stage.initial(), stage.oracle()
        self._first = proof.step_evidence(stage.spec, initial, read)
        stage.evidence["step1"] = dataclasses.asdict(self._first)
        if self._first.failure:
            raise LaunchFailedError("invalid_work", self._first.failure)
        verdict = Verdict(UNPROVEN, reason=NO_ORACLE)
        if oracle is not None:
            verdict = proof.prove_first_step(
                stage.spec, initial, read, oracle, stage.tolerance, suspects=stage.suspects
            )
        stage.evidence["parity"] = verdict.to_json()
        if verdict.status == FAIL:
            raise LaunchFailedError("invalid_work", str(verdict.reason))

    def _test_framework(self) -> float:
        """The seconds of an empty fence, once it has shown on products of known work that it waits.

        Before there is a program: what the products leave in the allocators is then used by it,
        and does not come on top of its memory.
        """
        stage = self.stage
        stage.enter("self_test")
        require(stage.check_precision())
        report = fence.check_matmul(stage.framework)
        stage.evidence["fence"] = dataclasses.asdict(report)
        stage.evidence["roof_flop_per_s"] = report.roof_flop_per_s
        if report.failure:
            raise LaunchFailedError("invalid_sync", report.failure)
        return report.fence_s

    def _test_program(self) -> float:
        """The seconds of a step, once the fence has been tested on the program itself."""
        stage = self.stage
        stage.enter("self_test")
        step_s = self._timed_step() / 1e9
        leftover = fence.check_program(
            stage.program, stage.framework, num_steps=max(1, min(20, round(0.05 / step_s)))
        )
        stage.evidence["leftover_share"] = leftover
        failure = fence.program_failure(leftover)
        if failure:
            raise LaunchFailedError("invalid_sync", failure)
        return step_s

    def _warm_up(self, step_s: float) -> WarmUp:
        stage = self.stage
        stage.enter("warm_up")
        warm = warm_up(
            stage.program,
            stage.framework,
            protocol=self.launch.protocol,
            rules=self.launch.rules,
            step_s=step_s,
        )
        self._marks = proof.marks(stage.program.read())
        stage.framework.settle()
        stage.evidence["num_compilations"] = stage.framework.num_compilations()
        gc.collect()
        gc.freeze()
        self._was_reset = memory.reset_host_peak()
        self._outputs = warm.outputs
        return warm

    def _take_turns(self) -> None:
        self.stage.enter("turn")
        while True:
            message = self.stage.channel.receive()
            if isinstance(message, Finish):
                return self._finish()
            assert isinstance(message, Turn)
            self.stage.channel.send(self._turn(message))

    def _turn(self, turn: Turn) -> BlockDone:
        compiled = self.stage.framework.num_compilations()
        block = self._block(num_steps=turn.num_steps, rewarm=True)
        self._step_ns.append(block.duration_ns / turn.num_steps)
        return _block_done(turn, block, compiled, self.stage.framework.num_compilations())

    def _finish(self) -> None:
        stage = self.stage
        stage.enter("finish")
        device = self.launch.settings.device
        peak = memory.peak(stage.framework, device=device, was_reset=self._was_reset)
        self._check_end()
        oracle = stage.oracle()
        self._check_other_batch(oracle)
        self._check_again(oracle)
        require(stage.check_precision())
        if self.launch.inspects:
            stage.inspect()
        stage.channel.send(
            Finished(
                evidence=stage.evidence,
                peak_memory_bytes=peak.num_bytes,
                peak_memory_source=peak.source,
            )
        )

    def _check_end(self) -> None:
        """The timed steps have moved every parameter, and nothing is NaN."""
        read = self.stage.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite at the end, loss {read['loss']}")
        self.stage.evidence["final_loss"] = float(read["loss"])
        still = proof.unmoved(self._marks, proof.marks(read))
        if self._step_ns and still:
            raise LaunchFailedError(
                "invalid_work", f"the timed steps did not update {still[0]}, one of {len(still)}"
            )
        require(frozen_checks(self.stage.initial(), read, name="frozen_after"))

    def _check_other_batch(self, oracle: Oracle | None) -> None:
        """Step 1 on another batch has another loss, which is the oracle's where there is one."""
        assert self._first is not None
        loss = self.stage.first_loss(batch=OTHER_BATCH)
        if not math.isfinite(loss):
            raise LaunchFailedError("nonfinite", f"not finite on another batch, loss {loss}")
        if loss == self._first.loss:
            raise LaunchFailedError("invalid_work", proof.SAME_BATCH)
        if oracle is not None:
            require([proof.other_batch_check(loss, oracle, self.stage.tolerance)])

    def _check_again(self, oracle: Oracle | None) -> None:
        """The program that was timed still makes the step that was proven, and takes its time to.

        The very step that is compared is timed: whatever is honest only while it is looked at is
        as slow then as honest work is.
        """
        shares: list[float] = []
        while len(shares) < NUM_AUDITS and max(shares, default=0.0) < MIN_SHARE_OF_AUDIT:
            step_ns = self._audited_step_ns(oracle)
            shares.append(statistics.median(self._step_ns or [step_ns]) / step_ns)
        self.stage.evidence["share_of_audit"] = max(shares)
        if max(shares) < MIN_SHARE_OF_AUDIT:
            raise LaunchFailedError(
                "invalid_work",
                f"the timed steps took {max(shares):.0%} of the time of a step that was checked"
                f" (at least {MIN_SHARE_OF_AUDIT:.0%} expected): they left work out",
            )

    def _audited_step_ns(self, oracle: Oracle | None) -> int:
        """The duration of a first step, from the canonical weights, that comes out as before."""
        stage = self.stage
        assert self._first is not None
        begin = time.perf_counter()
        stage.load()
        time.sleep(time.perf_counter() - begin)  # what a load left under way is no part of the step
        self._outputs = None
        step_ns = self._timed_step()
        read = stage.program.read()
        initial = stage.initial()
        again = proof.step_evidence(stage.spec, initial, read)
        require([proof.reproduction_check(self._first, again, stage.tolerance)])
        if oracle is not None:
            verdict = proof.prove_first_step(stage.spec, initial, read, oracle, stage.tolerance)
            if verdict.status == FAIL:
                raise LaunchFailedError("invalid_work", f"once more: {verdict.reason}")
        return step_ns


def _block_done(turn: Turn, block: BlockTime, before: int | None, after: int | None) -> BlockDone:
    return BlockDone(
        round=turn.round,
        num_steps=turn.num_steps,
        duration_ns=block.duration_ns,
        opening_fence_ns=block.opening_fence_ns,
        num_compilations=None if before is None or after is None else after - before,
        suspended=block.suspended,
    )


def _files(folder: str) -> frozenset[str]:
    return frozenset(
        os.path.join(path, name) for path, _, names in os.walk(folder) for name in names
    )
