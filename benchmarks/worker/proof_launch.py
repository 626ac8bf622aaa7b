"""One proof: a case's work against the oracle, check by check; or a holder's part of the oracle.

Nothing is timed. Standard library, NumPy, the contract and measuring.
"""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.message import Prove, Proved
from benchmarks.contract.workload import Arrays
from benchmarks.equivalence.checks import (
    Check,
    flop_check,
    frozen_checks,
    integer_checks,
    state_check,
    trajectory_check,
)
from benchmarks.equivalence.verdict import FAIL, UNPROVEN, Verdict, judge
from benchmarks.worker import oracle_files
from benchmarks.worker.context import LaunchFailedError, Stage
from benchmarks.worker.oracle_files import (
    NUM_FOLLOWED_STEPS,
    OPTIMIZER_PREFIX,
    OTHER_BATCH,
    SECOND_MOMENT_PREFIX,
    states_of,
)
from benchmarks.worker.tasks.inference.proof import (
    PROVEN,
    Asker,
    first_withheld,
    reproduction_check,
)
from benchmarks.worker.tasks.training import proof


class ProofSession:
    """The state of one proof."""

    def __init__(self, stage: Stage) -> None:
        assert isinstance(stage.launch, Prove)
        self.stage = stage
        self._request = stage.launch
        self._verdict = Verdict(UNPROVEN, reason="it holds the oracle")
        self._checks: list[Check] = []
        self._losses: list[float] = []

    def run(self) -> None:
        """Go through every phase and report; any exception ends the proof."""
        self.stage.import_framework()
        self.stage.enter("self_test")
        self._checks += self.stage.check_precision()
        self.stage.build()
        if self.stage.spec.requests is None:
            self._prove_training()
        else:
            self._prove_requests()
        self.stage.evidence["parity"] = self._judged().to_json()
        self.stage.channel.send(
            Proved(
                evidence=self.stage.evidence,
                settings={
                    "asked": dataclasses.asdict(self._request.settings),
                    "effective": self.stage.framework.describe(),
                },
            )
        )

    def _prove_training(self) -> None:
        self.stage.enter("load")
        self.stage.load()
        self.stage.enter("first_step")
        first = self._first_step()
        if self._is_judged:
            self._inspect()
        if self._verdict.status != FAIL:
            self._go_on(first)

    def _prove_requests(self) -> None:
        """Every answer to the proven requests, and the first of them once more."""
        stage = self.stage
        stage.load_requests_program()
        stage.enter("first_step")
        asker = Asker(stage)
        answers = asker.ask(asker.proven())
        first = first_withheld(answers)
        stage.evidence["placement"] = self._placement(asker.outputs)
        if not self._is_judged:
            asker.require_finite(answers)
        if self._request.keep_folder is not None:
            oracle_files.keep_answers(Path(self._request.keep_folder), answers.logits)
        if self._is_judged:
            self._verdict = asker.judge(answers)
            self._checks += self._verdict.checks
            self._inspect()
        self._checks += asker.recomputed_check(first)
        self._checks += asker.continued_check()
        again = asker.ask(PROVEN[:1])
        self._checks.append(reproduction_check(first, again, stage.tolerance.get("logits")))

    def _placement(self, outputs: Any) -> str:
        """Where values lie; LaunchFailedError where that is not where it was asked for."""
        self.stage.framework.wait(outputs)
        where = self.stage.framework.placement(outputs)
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
        stage = self.stage
        stage.evidence["placement"] = self._placement(stage.program.step())
        read = stage.program.read()
        if not proof.is_finite(read):
            raise LaunchFailedError("nonfinite", f"not finite after step 1, loss {read['loss']}")
        if self._request.keep_folder is not None:
            oracle_files.keep_step(Path(self._request.keep_folder), read)
        evidence = proof.step_evidence(stage.spec, stage.initial(), read)
        stage.evidence["step1"] = dataclasses.asdict(evidence)
        expected = stage.oracle()
        if expected is not None:
            self._verdict = proof.prove_first_step(
                stage.spec,
                stage.initial(),
                read,
                expected,
                stage.tolerance,
                suspects=stage.suspects,
            )
            self._checks += self._verdict.checks
        return evidence

    def _inspect(self) -> None:
        seen = self.stage.inspect()
        self._checks += integer_checks(seen, precision=self._request.case.way.precision)
        count = seen.get("flop_per_step")
        analytic = self.stage.spec.flop_per_step(self._request.case.work)
        if isinstance(count, int):
            self._checks.append(flop_check(count, analytic))

    def _repeat(self, first: proof.StepEvidence) -> None:
        stage = self.stage
        again = proof.step_evidence(stage.spec, stage.initial(), stage.first_step())
        self._checks.append(proof.reproduction_check(first, again, stage.tolerance))

    def _on_another_batch(self, first: proof.StepEvidence) -> float:
        """The loss of step 1 on another batch."""
        loss = self.stage.first_loss(batch=OTHER_BATCH)
        expected = self.stage.oracle()
        if expected is not None:
            check = proof.other_batch_check(loss, expected, self.stage.tolerance)
            self._checks.append(check)
            if not check.passes and loss == first.loss:
                causes = (proof.SAME_BATCH, *self._verdict.causes)
                self._verdict = dataclasses.replace(self._verdict, causes=causes)
        return loss

    def _follow(self) -> None:
        """Ten steps at the small learning rate, in a program that has it."""
        stage = self.stage
        del stage.program
        gc.collect()
        stage.build(stage.spec.trajectory)
        stage.enter("follow")
        stage.load()
        for _ in range(NUM_FOLLOWED_STEPS):
            loss = stage.program.step()
            stage.framework.wait(loss)
            self._losses.append(float(stage.framework.get(loss)))
        read = stage.program.read()
        if not (np.isfinite(self._losses).all() and proof.is_finite(read)):
            raise LaunchFailedError("nonfinite", f"not finite within ten steps: {self._losses}")
        if self._request.keep_folder is not None:
            oracle_files.keep_followed(Path(self._request.keep_folder), read)
        self._compare_followed(read)

    def _compare_followed(self, read: Arrays) -> None:
        expected, tolerance = self.stage.oracle(), self.stage.tolerance
        if expected is None or not expected.losses:
            return
        # First: it says more of what is wrong than the losses do.
        self._checks += frozen_checks(self.stage.initial(), read, name="frozen_after")
        self._checks.append(trajectory_check(self._losses, expected.losses, tolerance))
        for name, prefix, states in (
            ("momentum", OPTIMIZER_PREFIX, expected.followed),
            ("second_momentum", SECOND_MOMENT_PREFIX, expected.followed_second),
        ):
            if states:
                own = states_of(read, prefix)
                self._checks.append(state_check(name, own, states, tolerance))

    def _judged(self) -> Verdict:
        """The verdict on all checks; the causes are those of the first step, or of the rest."""
        if not self._is_judged:
            return dataclasses.replace(self._verdict, checks=tuple(self._checks))
        return judge(
            self._checks,
            oracle=self._verdict.oracle,
            first_difference=self._verdict.first_difference,
            causes=proof.causes_of(self._checks, self._verdict.causes),
        )
