"""The trial of a training program: blocks of steps, and the proof that they are the oracle's work.

Standard library, NumPy, the contract and measuring.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from typing import Any

from benchmarks.contract.program import Arrays
from benchmarks.equivalence.checks import frozen_checks
from benchmarks.equivalence.verdict import FAIL, UNPROVEN, ParityVerdict
from benchmarks.worker.context import LaunchContext, LaunchFailedError, require
from benchmarks.worker.oracle_files import OTHER_BATCH, Oracle
from benchmarks.worker.tasks.protocol import MIN_SHARE_OF_AUDIT, NO_ORACLE, require_share
from benchmarks.worker.tasks.training import proof
from benchmarks.worker.timing import BlockTime, time_block

NUM_AUDITS = 5


class TrainingTrial:
    """One training program under trial; see `Trial`."""

    def __init__(self, context: LaunchContext) -> None:
        self.steps_per_turn: int | None = None
        self.outputs: Any = None
        self._context = context
        self._first: proof.StepEvidence | None = None
        self._marks: dict[str, int] = {}
        self._step_ns: list[float] = []

    def load(self) -> None:
        """Load the canonical weights and batches."""
        self._context.enter("load")
        self._context.load()

    def time_steps(self, num_steps: int, *, rewarm: bool) -> BlockTime:
        """Time one block."""
        block = time_block(
            self._context.program,
            self._context.framework,
            num_steps=num_steps,
            previous=self.outputs,
            rewarm=rewarm,
        )
        self.outputs = block.outputs
        return block

    def step(self) -> Any:
        """Enqueue one step."""
        return self._context.program.step()

    def read(self) -> Arrays:
        """What the program holds."""
        return self._context.program.read()

    def prove_first(self) -> None:
        """The gate: what is timed from here on has made the oracle's step, or nothing is."""
        context = self._context
        read = context.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite after step 1, loss {read['loss']}")
        initial, oracle = context.initial(), context.oracle()
        self._first = proof.step_evidence(context.spec, initial, read)
        context.evidence["step1"] = dataclasses.asdict(self._first)
        if self._first.failure:
            raise LaunchFailedError("invalid_work", self._first.failure)
        verdict = ParityVerdict(UNPROVEN, reason=NO_ORACLE)
        if oracle is not None:
            verdict = proof.prove_first_step(
                context.spec,
                initial,
                read,
                oracle,
                context.tolerance,
                known_mistakes=context.known_mistakes,
            )
        context.evidence["parity"] = verdict.to_json()
        if verdict.status == FAIL:
            raise LaunchFailedError("invalid_work", str(verdict.reason))

    def begin_turns(self) -> None:
        """Remember what the warm-up leaves: the timed steps have to move all of it."""
        self._marks = proof.marks(self._context.program.read())

    def keep(self, block: BlockTime, *, num_steps: int) -> None:
        """Remember a timed block."""
        self._step_ns.append(block.duration_ns / num_steps)

    def prove_end(self) -> None:
        """Make every check that the timed steps leave to be made."""
        oracle = self._context.oracle()
        self._check_end()
        self._check_other_batch(oracle)
        self._check_again(oracle)

    def _check_end(self) -> None:
        """The timed steps have moved every parameter, and nothing is NaN."""
        read = self._context.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite at the end, loss {read['loss']}")
        self._context.evidence["final_loss"] = float(read["loss"])
        still = proof.unmoved(self._marks, proof.marks(read))
        if self._step_ns and still:
            raise LaunchFailedError(
                "invalid_work", f"the timed steps did not update {still[0]}, one of {len(still)}"
            )
        require(frozen_checks(self._context.initial(), read, name="frozen_after"))

    def _check_other_batch(self, oracle: Oracle | None) -> None:
        """Step 1 on another batch has another loss, which is the oracle's where there is one."""
        assert self._first is not None
        loss = self._context.first_loss(batch=OTHER_BATCH)
        if not math.isfinite(loss):
            raise LaunchFailedError("nonfinite", f"not finite on another batch, loss {loss}")
        if loss == self._first.loss:
            raise LaunchFailedError("invalid_work", proof.SAME_BATCH)
        if oracle is not None:
            require([proof.other_batch_check(loss, oracle, self._context.tolerance)])

    def _check_again(self, oracle: Oracle | None) -> None:
        """The program that was timed still makes the step that was proven, and takes its time to.

        The very step that is compared is timed: whatever is honest only while it is looked at is
        as slow then as honest work is.
        """
        shares: list[float] = []
        while len(shares) < NUM_AUDITS and max(shares, default=0.0) < MIN_SHARE_OF_AUDIT:
            step_ns = self._audited_step_ns(oracle)
            shares.append(statistics.median(self._step_ns or [step_ns]) / step_ns)
        require_share(self._context, max(shares))

    def _audited_step_ns(self, oracle: Oracle | None) -> int:
        """The duration of a first step, from the canonical weights, that comes out as before."""
        context = self._context
        assert self._first is not None
        begin = time.perf_counter()
        context.load()
        time.sleep(time.perf_counter() - begin)  # what a load left under way is no part of the step
        self.outputs = None
        step_ns = self.time_steps(1, rewarm=False).duration_ns
        read = context.program.read()
        initial = context.initial()
        again = proof.step_evidence(context.spec, initial, read)
        require([proof.reproduction_check(self._first, again, context.tolerance)])
        if oracle is not None:
            verdict = proof.prove_first_step(context.spec, initial, read, oracle, context.tolerance)
            if verdict.status == FAIL:
                raise LaunchFailedError("invalid_work", f"once more: {verdict.reason}")
        return step_ns
