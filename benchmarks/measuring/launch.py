"""One launch: import, self-test, build, load, first step, self-test, warm-up, turns, finish.

Standard library, NumPy, the contract and measuring.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import os
from pathlib import Path
from typing import Any

from benchmarks.contract.framework import Capabilities, Framework
from benchmarks.contract.message import (
    BlockDone,
    Failed,
    Finish,
    Finished,
    Launch,
    Phase,
    Ready,
    Turn,
)
from benchmarks.contract.workload import Program, WorkloadSpec, problem_of
from benchmarks.measuring import data, fence, memory, proof
from benchmarks.measuring import settings as launch_settings
from benchmarks.measuring.channel import Channel
from benchmarks.measuring.timing import BlockTime, time_block
from benchmarks.measuring.warmup import WarmUp, warm_up

NUM_FIRST_STEPS = 3


class LaunchFailedError(Exception):
    """The launch ends with a status of its own, found by a check and not by an exception."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Session:
    """The state of one launch: what it has built, and the evidence collected so far."""

    framework: Framework
    program: Program
    spec: WorkloadSpec

    def __init__(self, launch: Launch, channel: Channel) -> None:
        self.launch = launch
        self.capabilities: Capabilities | None = None
        self.evidence: dict[str, Any] = {}
        self._channel = channel
        self._phase = "start"
        self._outputs: Any = None
        self._was_reset = False

    def run(self) -> None:
        """Go through every phase; LaunchFailedError or any exception ends the launch."""
        self._import()
        fence_s = self._test_fence()
        self._build()
        self._load()
        first_steps_ns, cold_cache = self._first_steps()
        self._test_program()
        warm = self._warm_up()
        self._channel.send(
            Ready(
                step_s=warm.step_s,
                fence_s=fence_s,
                first_steps_ns=first_steps_ns,
                cold_cache=cold_cache,
                warmup_ns=warm.mini_blocks_ns,
                steady=warm.steady,
                evidence=self.evidence,
                settings={
                    "asked": dataclasses.asdict(self.launch.settings),
                    "effective": self.framework.describe(),
                },
            )
        )
        self._take_turns()

    def failed(self, status: str, reason: str) -> Failed:
        """The message that ends this launch."""
        return Failed(status=status, reason=reason, phase=self._phase, evidence=self.evidence)

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._channel.send(Phase(phase))

    def _import(self) -> None:
        self._enter("import")
        package = importlib.import_module(self.launch.framework_module)
        self.capabilities = package.CAPABILITIES
        launch_settings.check(package.CAPABILITIES, self.launch.settings)
        launch_settings.check_environment(package.environment(self.launch.settings), os.environ)
        adapter = importlib.import_module(f"{self.launch.framework_module}.adapter")
        self.framework = adapter.Adapter()
        self.framework.configure(self.launch.settings)

    def _build(self) -> None:
        self._enter("build")
        specs = importlib.import_module(self.launch.spec_module).SPECS
        self.spec = specs[self.launch.case.work.workload]
        implementation = importlib.import_module(self.launch.implementation_module)
        self.program = implementation.build(problem_of(self.launch.case, self.spec), self.framework)

    def _load(self) -> None:
        self._enter("load")
        folder = Path(self.launch.data_folder)
        self.program.load(data.read_weights(folder))
        self.program.feed(data.read_batches(folder))

    def _first_steps(self) -> tuple[tuple[int, ...], bool | None]:
        """The durations of the first steps one by one, and whether the first filled the cache."""
        self._enter("first_step")
        found = _files(self.launch.settings.cache_folder)
        durations_ns = [self._timed_step()]
        cached = _files(self.launch.settings.cache_folder)
        self._check_placement()
        self._check_first_step()
        durations_ns += [self._timed_step() for _ in range(NUM_FIRST_STEPS - 1)]
        return tuple(durations_ns), not cached <= found if cached else None

    def _timed_step(self) -> int:
        block = time_block(
            self.program, self.framework, num_steps=1, previous=self._outputs, rewarm=False
        )
        self._outputs = block.outputs
        return block.duration_ns

    def _check_placement(self) -> None:
        asked, real = self.launch.settings.device, self.framework.placement(self._outputs)
        self.evidence["placement"] = real
        if real != asked:
            raise LaunchFailedError("not_placed", f"asked to run on {asked}, ran on {real}")

    def _check_first_step(self) -> None:
        read = self.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite after step 1, loss {read['loss']}")
        initial = data.read_weights(Path(self.launch.data_folder))
        evidence = proof.step_evidence(self.spec, initial, read)
        self.evidence["step1"] = dataclasses.asdict(evidence)
        if evidence.failure:
            raise LaunchFailedError("invalid_work", evidence.failure)

    def _test_fence(self) -> float:
        """The seconds of an empty fence, once it has shown on products of known work that it waits.

        Before there is a program: what the products leave in the allocators is then used by it,
        and does not come on top of its memory.
        """
        self._enter("self_test")
        report = fence.check_matmul(self.framework)
        self.evidence["fence"] = dataclasses.asdict(report)
        self.evidence["roof_flop_per_s"] = report.roof_flop_per_s
        if report.failure:
            raise LaunchFailedError("invalid_sync", report.failure)
        return report.fence_s

    def _test_program(self) -> None:
        """The fence on the program itself."""
        self._enter("self_test")
        step_s = self._timed_step() / 1e9
        leftover = fence.check_program(
            self.program, self.framework, num_steps=max(1, min(20, round(0.05 / step_s)))
        )
        self.evidence["leftover_share"] = leftover
        failure = fence.program_failure(leftover)
        if failure:
            raise LaunchFailedError("invalid_sync", failure)

    def _warm_up(self) -> WarmUp:
        self._enter("warm_up")
        step_s = self._timed_step() / 1e9
        warm = warm_up(
            self.program,
            self.framework,
            protocol=self.launch.protocol,
            rules=self.launch.rules,
            step_s=step_s,
        )
        self.framework.settle()
        self.evidence["num_compilations"] = self.framework.num_compilations()
        gc.collect()
        gc.freeze()
        self._was_reset = memory.reset_host_peak()
        self._outputs = warm.outputs
        return warm

    def _take_turns(self) -> None:
        self._enter("turn")
        while True:
            message = self._channel.receive()
            if isinstance(message, Finish):
                return self._finish()
            assert isinstance(message, Turn)
            self._channel.send(self._turn(message))

    def _turn(self, turn: Turn) -> BlockDone:
        compiled = self.framework.num_compilations()
        block = time_block(
            self.program,
            self.framework,
            num_steps=turn.num_steps,
            previous=self._outputs,
            rewarm=True,
        )
        self._outputs = block.outputs
        return _block_done(turn, block, compiled, self.framework.num_compilations())

    def _finish(self) -> None:
        self._enter("finish")
        device = self.launch.settings.device
        peak = memory.peak(self.framework, device=device, was_reset=self._was_reset)
        read = self.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite at the end, loss {read['loss']}")
        self.evidence["final_loss"] = float(read["loss"])
        self._channel.send(
            Finished(
                evidence=self.evidence,
                peak_memory_bytes=peak.num_bytes,
                peak_memory_source=peak.source,
            )
        )


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
