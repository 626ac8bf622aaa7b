"""Training: blocks of steps are timed, and the first step is compared with the oracle's.

Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.contract.evidence import FAIL, Check, FirstStep, ParityVerdict
from benchmarks.contract.precision import PRECISIONS
from benchmarks.contract.program import Arrays, Program
from benchmarks.equivalence.checks import (
    flop_check,
    frozen_checks,
    integer_checks,
    state_check,
    trajectory_check,
)
from benchmarks.equivalence.own_update import MAX_TOTAL, sample_of
from benchmarks.equivalence.trace import Suspects
from benchmarks.equivalence.trajectory import causes_of_losses
from benchmarks.equivalence.verdict import judge
from benchmarks.worker import oracle_files
from benchmarks.worker.context import LaunchContext, LaunchFailedError, require
from benchmarks.worker.oracle_files import (
    NUM_FOLLOWED_STEPS,
    OPTIMIZER_PREFIX,
    OTHER_BATCH,
    SECOND_MOMENT_PREFIX,
    Oracle,
    states_of,
)
from benchmarks.worker.other_load import OtherLoad
from benchmarks.worker.tasks.protocol import (
    fail_unless_disturbed,
    final_verdict,
    held_to,
    pause,
    require_share,
)
from benchmarks.worker.tasks.training import proof
from benchmarks.worker.tasks.training.continuation import Place, prove_later_steps
from benchmarks.worker.tasks.training.unread import prove_unread_steps
from benchmarks.worker.timing import BlockTime, time_block

NUM_AUDITS = 5
MIN_SHARE_OF_AUDIT = 0.5
"""The smallest share of an audited block's time that the timed blocks may take: a backward pass is
two thirds of a step. Both are blocks of as many steps, and the fastest of five audits counts."""
MAX_SHARE_OF_SINGLE = 1.5
"""The largest share of a single step's time that each of several in a row may take. A step whose
work goes on after its outputs are ready seems short alone, and the next one waits for it."""
JUDGED_LATER = {"own_update", "continued_loss", "continued_gradient"}
"""The tolerances without which later steps are not judged."""
FOLLOWED = ("losses", "momentum", "second_momentum")
"""The checks of ten consecutive steps."""


def create(context: LaunchContext) -> TrainingTask:
    """The task of this launch; its program is built and not loaded."""
    return TrainingTask(context)


class TrainingTask:
    """One training program; see `Task`."""

    def __init__(self, context: LaunchContext) -> None:
        self.program: Program = context.build()
        self.steps_per_turn: int | None = None
        self.outputs: Any = None
        self._context = context
        self._first: FirstStep | None = None
        self._marks: dict[str, int] = {}
        self._step_ns: list[float] = []
        self._num_steps = 1
        """Steps of a turn's block."""
        self._place = Place(0, 0)

    def load(self) -> None:
        """Load the canonical weights and batches."""
        self._context.enter("load")
        self._load()

    def time_steps(self, num_steps: int, *, steps_per_sample: int | None = None) -> BlockTime:
        """Time one block."""
        block = time_block(
            self.program,
            self._context.framework,
            num_steps=num_steps,
            previous=self.outputs,
            steps_per_sample=steps_per_sample,
        )
        self.outputs = block.outputs
        self._move_on(num_steps)
        return block

    def step(self) -> Any:
        """Enqueue one step."""
        self._move_on(1)
        return self.program.step()

    def read(self) -> Arrays:
        """The arrays that the program holds."""
        return self.program.read()

    def prove_first(self) -> None:
        """The gate: timing starts only if step 1 matches the oracle's, or the proven launch's."""
        context = self._context
        read = self._read_finite("after step 1")
        initial = context.initial()
        self._first = proof.step_evidence(context.spec, initial, read)
        context.evidence.step1 = self._first
        if self._first.failure:
            raise LaunchFailedError("invalid_work", self._first.failure)
        if context.proven is not None:
            limit = context.tolerance.get("gradient_norm")
            verdict = held_to(context.proven, self._first, context.tolerance, limit=limit)
        elif (oracle := self._oracle()) is not None:
            verdict = self._compared(read, oracle)
        else:
            verdict = proof.unproven_step(context.optimizer, initial, read, context.tolerance)
        context.evidence.parity = verdict
        context.require_equal_work(verdict)

    def begin_turns(self) -> None:
        """If the proof of later steps sees too little, remember all: timed steps must change it."""
        if not self._sees_later_steps():
            self._marks = proof.marks(self.program.read())

    def keep(self, block: BlockTime, *, num_steps: int) -> None:
        """Remember a timed block."""
        self._num_steps = num_steps
        self._step_ns.append(block.duration_ns / num_steps)

    def prove_end(self) -> None:
        """Make the checks that come after timing.

        A launch that is held to a proven one makes those that concern its timed steps.
        """
        context = self._context
        self._check_end()
        if context.proven is not None:
            self._check_again(None)
            return
        oracle = self._oracle()
        self._check_other_batch(oracle)
        self._check_again(oracle)
        if context.optimizer is not None:
            prove_unread_steps(context, self.program, self._load, num_steps=self._num_steps)

    def prove_all(self, checks: Sequence[Check]) -> ParityVerdict:
        """Check step 1 tensor by tensor, on another batch and repeated, then ten steps."""
        whole = _WholeProof(list(checks))
        self.load()
        self._context.enter("first_step")
        first = self._prove_step(whole)
        if self._oracle() is not None and not self._context.confirms:
            whole.checks += self._inspected()
        if whole.verdict is None or whole.verdict.status != FAIL:
            self._go_on(first, whole)
        return final_verdict(whole.verdict, whole.checks, {**proof.CAUSES, **whole.causes})

    def _load(self, *, first_batch: int = 0) -> None:
        """Load the canonical weights, and feed the batches rotated to begin at `first_batch`."""
        self.program.load(self._context.initial())
        batches = self._context.batches()
        self.program.feed([*batches[first_batch:], *batches[:first_batch]])
        self._place = Place(0, first_batch)

    def _move_on(self, num_steps: int) -> None:
        self._place = self._place._replace(num_made=self._place.num_made + num_steps)

    def _first_loss(self, *, batch: int) -> float:
        """The loss of one step from the canonical weights on this batch."""
        self._load(first_batch=batch)
        loss = self.step()
        self._context.framework.wait(loss)
        return float(self._context.framework.get(loss))

    def _oracle(self) -> Oracle | None:
        folder = self._context.oracle_folder
        return None if folder is None else oracle_files.load(folder, identity=folder.name)

    def _suspects(self) -> Suspects:
        """The mistakes in step 1 that the workload can compute."""
        context, spec = self._context, self._context.spec
        work = context.launch.case.work
        return Suspects(
            mistakes=lambda: spec.known_mistakes(work, context.initial(), context.batches()[0]),
            constants=lambda: spec.other_constants(work, context.initial(), context.batches()[0]),
            products_are_exact=context.products_are_exact,
            work=work,
        )

    def _read_finite(self, when: str) -> Arrays:
        """The arrays that the program holds; LaunchFailedError if a value is not finite."""
        read = self.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite {when}, loss {read['loss']}")
        return read

    def _compared(self, read: Arrays, oracle: Oracle) -> ParityVerdict:
        """The verdict on step 1, from the arrays that it left."""
        context = self._context
        return proof.prove_first_step(
            context.spec,
            context.initial(),
            read,
            oracle,
            context.tolerance,
            suspects=self._suspects(),
        )

    def _check_end(self) -> None:
        """Every value is finite, frozen weights are unchanged, and further steps are right."""
        context, read = self._context, self._read_finite("at the end")
        context.evidence.final_loss = float(read["loss"])
        require(frozen_checks(context.initial(), read, name="frozen_after"))
        if self._marks:
            self._check_moved(read)
        if context.optimizer is None:
            return
        verdict = prove_later_steps(context, self.program, read, self._place)
        context.evidence.later_steps = verdict
        if verdict.status == FAIL:  # early steps may show it better: bias correction fades
            self._first_loss(batch=OTHER_BATCH)
            self._check_second_step()
        context.require_equal_work(verdict, when="after the turns: ")

    def _sees_later_steps(self) -> bool:
        """Whether later steps are held to the optimizer, in every parameter."""
        context, initial = self._context, self._context.initial()
        return (
            context.optimizer is not None
            and set(context.tolerance) >= JUDGED_LATER
            and sum(array.size for array in initial.values()) <= MAX_TOTAL
        )

    def _check_moved(self, read: Arrays) -> None:
        """The timed steps have changed every parameter."""
        still = proof.unmoved(self._marks, proof.marks(read))
        if self._step_ns and still:
            raise LaunchFailedError(
                "invalid_work", f"the timed steps did not update {still[0]}, one of {len(still)}"
            )

    def _check_other_batch(self, oracle: Oracle | None) -> None:
        """Step 1 on another batch has another loss, and matches the oracle's if there is one."""
        assert self._first is not None
        loss = self._first_loss(batch=OTHER_BATCH)
        if not math.isfinite(loss):
            raise LaunchFailedError("nonfinite", f"not finite on another batch, loss {loss}")
        if loss == self._first.loss:
            raise LaunchFailedError("invalid_work", proof.SAME_BATCH)
        if oracle is not None:
            require([proof.other_batch_check(loss, oracle, self._context.tolerance)])
        self._check_second_step()

    def _check_second_step(self) -> None:
        """A second step is held to its own moments, while Adam's bias correction still matters."""
        context = self._context
        if context.optimizer is None:
            return
        read = self.program.read()
        sample = sample_of(read, context.initial(), seed=context.draw)
        before = sample.states(read)
        context.framework.wait(self.step())
        own = proof.own_step(
            context.optimizer,
            before,
            sample.states(self._read_finite("after step 2")),
            context.tolerance,
            number=2,
            coarsest=PRECISIONS[context.launch.case.way.precision].stored_unit,
        )
        verdict = judge(own.checks, causes=own.causes)
        context.require_equal_work(verdict, when="in step 2: ")

    def _check_again(self, oracle: Oracle | None) -> None:
        """Repeat step 1 after timing: its result must still match, and timed steps be no quicker.

        The block after it is timed as a turn's is, and must not take much longer than those: a
        program that skips work unless it is checked fails here.
        """
        shares: list[float] = []
        of_single: list[float] = []
        load = OtherLoad()
        while len(shares) < NUM_AUDITS:
            if shares:
                pause()
            single_ns = self._repeated_step_ns(oracle)
            step_ns = self.time_steps(self._num_steps).duration_ns / self._num_steps
            shares.append(statistics.median(self._step_ns or [step_ns]) / step_ns)
            of_single.append(step_ns / single_ns)
            if max(shares) >= MIN_SHARE_OF_AUDIT and min(of_single) <= MAX_SHARE_OF_SINGLE:
                break
        require_share(self._context, max(shares), least=MIN_SHARE_OF_AUDIT, load=load)
        if min(of_single) > MAX_SHARE_OF_SINGLE:
            fail_unless_disturbed(
                self._context,
                f"each of several steps in a row takes {min(of_single):.2g} times as long as one"
                f" alone (at most {MAX_SHARE_OF_SINGLE} expected): a step's work goes on after its"
                " outputs are ready",
                load=load,
            )

    def _repeated_step_ns(self, oracle: Oracle | None) -> int:
        """The duration of a repeated first step, after checking that its result is the same."""
        context = self._context
        assert self._first is not None
        begin = time.perf_counter()
        self._load()
        time.sleep(time.perf_counter() - begin)  # work queued by the load is not part of the step
        self.outputs = None
        step_ns = self.time_steps(1).duration_ns
        read, initial = self.program.read(), context.initial()
        again = proof.step_evidence(context.spec, initial, read)
        require([proof.reproduction_check(self._first, again, context.tolerance)])
        if oracle is not None:
            verdict = proof.prove_first_step(context.spec, initial, read, oracle, context.tolerance)
            context.require_equal_work(verdict, when="once more: ")
        return step_ns

    def _prove_step(self, whole: _WholeProof) -> FirstStep:
        """Make step 1; compare it with the oracle if there is one, keep it if this computes one."""
        context = self._context
        outputs = self.step()
        context.framework.wait(outputs)
        context.require_placement(outputs)
        read = self._read_finite("after step 1")
        if context.keep_folder is not None:
            oracle_files.keep_step(context.keep_folder, read)
        first = proof.step_evidence(context.spec, context.initial(), read)
        context.evidence.step1 = first
        oracle = self._oracle()
        if oracle is not None:
            whole.verdict = self._compared(read, oracle)
            whole.checks += whole.verdict.checks
        return first

    def _inspected(self) -> Iterator[Check]:
        context, case = self._context, self._context.launch.case
        seen = context.inspect(self.program.inspect)
        yield from integer_checks(seen, precision=case.way.precision)
        if seen is not None and seen.flop_per_step is not None:
            yield flop_check(seen.flop_per_step, context.spec.flop_per_step(case.work))

    def _go_on(self, first: FirstStep, whole: _WholeProof) -> None:
        """Make the checks that need a correct step 1, and keep the numbers for an oracle."""
        context = self._context
        if self._oracle() is not None and not context.confirms:
            self._load()
            context.framework.wait(self.step())
            read = self.program.read()
            again = proof.step_evidence(context.spec, context.initial(), read)
            whole.checks.append(proof.reproduction_check(first, again, context.tolerance))
            self._prove_later(read, whole)
        other_loss = self._on_another_batch(first, whole)
        losses: list[float] = []
        if context.follows:
            losses = self._follow(whole)
        if context.keep_folder is not None:
            oracle_files.keep_numbers(context.keep_folder, other_loss=other_loss, losses=losses)

    def _prove_later(self, read: Arrays, whole: _WholeProof) -> None:
        """Check the steps after step 1, as a timed launch does after its turns."""
        if self._context.optimizer is None:
            return
        verdict = prove_later_steps(self._context, self.program, read, self._place)
        self._context.evidence.later_steps = verdict
        whole.checks += verdict.checks
        if whole.verdict is not None and verdict.causes:
            whole.verdict = dataclasses.replace(whole.verdict, causes=verdict.causes)

    def _on_another_batch(self, first: FirstStep, whole: _WholeProof) -> float:
        """The loss of step 1 on another batch."""
        loss, oracle = self._first_loss(batch=OTHER_BATCH), self._oracle()
        if oracle is not None:
            check = proof.other_batch_check(loss, oracle, self._context.tolerance)
            whole.checks.append(check)
            if whole.verdict is not None and not check.passes and loss == first.loss:
                causes = (proof.SAME_BATCH, *whole.verdict.causes)
                whole.verdict = dataclasses.replace(whole.verdict, causes=causes)
        return loss

    def _follow(self, whole: _WholeProof) -> list[float]:
        """The losses of ten steps, in a program built with the spec's small learning rate."""
        context = self._context
        del self.program
        gc.collect()
        context.enter("build")
        self.program = context.build(context.spec.trajectory)
        context.enter("follow")
        self._load()
        losses = []
        for _ in range(NUM_FOLLOWED_STEPS):
            loss = self.program.step()
            context.framework.wait(loss)
            losses.append(float(context.framework.get(loss)))
        read = self.program.read()
        if not (np.isfinite(losses).all() and proof.is_finite(read)):
            raise LaunchFailedError("nonfinite", f"not finite within ten steps: {losses}")
        if context.keep_folder is not None:
            oracle_files.keep_followed(context.keep_folder, read)
        whole.checks += self._followed_checks(read, losses)
        oracle = self._oracle()
        if oracle is not None and oracle.losses:
            causes = causes_of_losses(losses, oracle.losses, context.tolerance)
            whole.causes = {name: cause for name in FOLLOWED for cause in causes[:1]}
        return losses

    def _followed_checks(self, read: Arrays, losses: Sequence[float]) -> Iterator[Check]:
        oracle, tolerance = self._oracle(), self._context.tolerance
        if oracle is None or not oracle.losses:
            return
        # First, since it tells more about the cause than the losses do.
        yield from frozen_checks(self._context.initial(), read, name="frozen_after")
        yield trajectory_check(losses, oracle.losses, tolerance)
        for name, prefix, states in (
            ("momentum", OPTIMIZER_PREFIX, oracle.followed),
            ("second_momentum", SECOND_MOMENT_PREFIX, oracle.followed_second),
        ):
            if states:
                yield state_check(name, states_of(read, prefix), states, tolerance)


@dataclass
class _WholeProof:
    """The checks and the verdict of a proof so far."""

    checks: list[Check]
    verdict: ParityVerdict | None = None
    """The verdict on step 1; None if this program computes the oracle."""
    causes: dict[str, str] = dataclasses.field(default_factory=dict)
    """The likely mistake if step 1 is right and this check fails."""
