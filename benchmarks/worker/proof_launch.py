"""One proof: a case's work against the oracle, check by check; or a holder's part of the oracle.

Nothing is timed. Standard library, NumPy, the contract and measuring.
"""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.message import ProofRequest, Proved
from benchmarks.contract.program import Arrays
from benchmarks.equivalence.checks import (
    Check,
    flop_check,
    frozen_checks,
    integer_checks,
    state_check,
    trajectory_check,
)
from benchmarks.equivalence.verdict import FAIL, UNPROVEN, ParityVerdict, judge
from benchmarks.worker import oracle_files
from benchmarks.worker.context import LaunchContext, LaunchFailedError
from benchmarks.worker.oracle_files import (
    NUM_FOLLOWED_STEPS,
    OPTIMIZER_PREFIX,
    OTHER_BATCH,
    SECOND_MOMENT_PREFIX,
    states_of,
)
from benchmarks.worker.tasks.inference.proof import (
    PROVEN,
    InferenceChecker,
    first_withheld,
    reproduction_check,
)
from benchmarks.worker.tasks.training import proof


class ProofSession:
    """The state of one proof."""

    def __init__(self, context: LaunchContext) -> None:
        assert isinstance(context.launch, ProofRequest)
        self.context = context
        self._request = context.launch
        self._verdict = ParityVerdict(UNPROVEN, reason="it holds the oracle")
        self._checks: list[Check] = []
        self._losses: list[float] = []

    def run(self) -> None:
        """Go through every phase and report; any exception ends the proof."""
        self.context.import_framework()
        self.context.enter("self_test")
        self._checks += self.context.check_precision()
        self.context.build()
        if self.context.spec.requests is None:
            self._prove_training()
        else:
            self._prove_requests()
        self.context.evidence["parity"] = self._judged().to_json()
        self.context.channel.send(
            Proved(
                evidence=self.context.evidence,
                settings={
                    "asked": dataclasses.asdict(self._request.settings),
                    "effective": self.context.framework.describe(),
                },
            )
        )

    def _prove_training(self) -> None:
        self.context.enter("load")
        self.context.load()
        self.context.enter("first_step")
        first = self._first_step()
        if self._is_judged:
            self._inspect()
        if self._verdict.status != FAIL:
            self._go_on(first)

    def _prove_requests(self) -> None:
        """Every answer to the proven requests, and the first of them once more."""
        context = self.context
        context.load_requests_program()
        context.enter("first_step")
        checker = InferenceChecker(context)
        answers = checker.ask(checker.proven())
        first = first_withheld(answers)
        context.evidence["placement"] = self._placement(checker.outputs)
        if not self._is_judged:
            checker.require_finite(answers)
        if self._request.keep_folder is not None:
            oracle_files.keep_answers(Path(self._request.keep_folder), answers.logits)
        if self._is_judged:
            self._verdict = checker.judge(answers)
            self._checks += self._verdict.checks
            self._inspect()
        self._checks += checker.recomputed_check(first)
        self._checks += checker.free_running_check()
        again = checker.ask(PROVEN[:1])
        self._checks.append(reproduction_check(first, again, context.tolerance.get("logits")))

    def _placement(self, outputs: Any) -> str:
        """Where values lie; LaunchFailedError where that is not where it was asked for."""
        self.context.framework.wait(outputs)
        where = self.context.framework.placement(outputs)
        if where != self._request.settings.device:
            raise LaunchFailedError("not_placed", f"it ran on {where}")
        return where

    @property
    def _is_judged(self) -> bool:
        """Whether there is an oracle; the first who holds one has nobody to be compared with."""
        return self._request.oracle_folder is not None

    def _go_on(self, first: proof.StepEvidence) -> None:
        """What tells more only where step 1 is right, and what a holder of the oracle keeps."""
        if self._is_judged:
            self._repeat(first)
        other_loss = self._on_another_batch(first)
        if self._request.follows:
            self._follow()
        if self._request.keep_folder is not None:
            oracle_files.keep_numbers(
                Path(self._request.keep_folder), other_loss=other_loss, losses=self._losses
            )

    def _first_step(self) -> proof.StepEvidence:
        context = self.context
        context.evidence["placement"] = self._placement(context.program.step())
        read = context.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite after step 1, loss {read['loss']}")
        if self._request.keep_folder is not None:
            oracle_files.keep_step(Path(self._request.keep_folder), read)
        evidence = proof.step_evidence(context.spec, context.initial(), read)
        context.evidence["step1"] = dataclasses.asdict(evidence)
        expected = context.oracle()
        if expected is not None:
            self._verdict = proof.prove_first_step(
                context.spec,
                context.initial(),
                read,
                expected,
                context.tolerance,
                known_mistakes=context.known_mistakes,
            )
            self._checks += self._verdict.checks
        return evidence

    def _inspect(self) -> None:
        seen = self.context.inspect()
        self._checks += integer_checks(seen, precision=self._request.case.way.precision)
        count = seen.get("flop_per_step")
        analytic = self.context.spec.flop_per_step(self._request.case.work)
        if isinstance(count, int):
            self._checks.append(flop_check(count, analytic))

    def _repeat(self, first: proof.StepEvidence) -> None:
        context = self.context
        again = proof.step_evidence(context.spec, context.initial(), context.first_step())
        self._checks.append(proof.reproduction_check(first, again, context.tolerance))

    def _on_another_batch(self, first: proof.StepEvidence) -> float:
        """The loss of step 1 on another batch."""
        loss = self.context.first_loss(batch=OTHER_BATCH)
        expected = self.context.oracle()
        if expected is not None:
            check = proof.other_batch_check(loss, expected, self.context.tolerance)
            self._checks.append(check)
            if not check.passes and loss == first.loss:
                causes = (proof.SAME_BATCH, *self._verdict.causes)
                self._verdict = dataclasses.replace(self._verdict, causes=causes)
        return loss

    def _follow(self) -> None:
        """Ten steps at the small learning rate, in a program that has it."""
        context = self.context
        del context.program
        gc.collect()
        context.build(context.spec.trajectory)
        context.enter("follow")
        context.load()
        for _ in range(NUM_FOLLOWED_STEPS):
            loss = context.program.step()
            context.framework.wait(loss)
            self._losses.append(float(context.framework.get(loss)))
        read = context.program.read()
        if not (np.isfinite(self._losses).all() and proof.is_finite(read)):
            raise LaunchFailedError("nonfinite", f"not finite within ten steps: {self._losses}")
        if self._request.keep_folder is not None:
            oracle_files.keep_followed(Path(self._request.keep_folder), read)
        self._compare_followed(read)

    def _compare_followed(self, read: Arrays) -> None:
        expected, tolerance = self.context.oracle(), self.context.tolerance
        if expected is None or not expected.losses:
            return
        # First: it says more of what is wrong than the losses do.
        self._checks += frozen_checks(self.context.initial(), read, name="frozen_after")
        self._checks.append(trajectory_check(self._losses, expected.losses, tolerance))
        for name, prefix, states in (
            ("momentum", OPTIMIZER_PREFIX, expected.followed),
            ("second_momentum", SECOND_MOMENT_PREFIX, expected.followed_second),
        ):
            if states:
                own = states_of(read, prefix)
                self._checks.append(state_check(name, own, states, tolerance))

    def _judged(self) -> ParityVerdict:
        """The verdict on all checks; the causes are those of the first step, or of the rest."""
        if not self._is_judged:
            return dataclasses.replace(self._verdict, checks=tuple(self._checks))
        return judge(
            self._checks,
            oracle=self._verdict.oracle,
            first_difference=self._verdict.first_difference,
            causes=proof.causes_of(self._checks, self._verdict.causes),
        )
