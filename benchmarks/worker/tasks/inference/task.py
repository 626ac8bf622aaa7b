"""Inference: requests are timed one by one, and their answers are compared with the oracle's.

Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.contract.evidence import Check, ParityVerdict
from benchmarks.contract.program import Arrays, RequestProgram
from benchmarks.contract.task import NUM_REQUESTS, WITHHELD
from benchmarks.equivalence.answers import Answers
from benchmarks.equivalence.checks import integer_checks
from benchmarks.equivalence.verdict import judge
from benchmarks.worker import oracle_files
from benchmarks.worker.context import LaunchContext, require
from benchmarks.worker.other_load import OtherLoad
from benchmarks.worker.tasks.inference.proof import (
    CAUSES,
    PROVEN,
    InferenceChecker,
    first_withheld,
    reproduction_check,
)
from benchmarks.worker.tasks.protocol import final_verdict, held_to, pause, require_share
from benchmarks.worker.timing import BlockTime, time_requests

GATE, AUDIT = PROVEN[:2], PROVEN[2:]
"""The proven requests that run before the turns, and those that first run after them."""
NEW = tuple(index for index in WITHHELD if index not in PROVEN)
"""Further requests that first run after the turns, for their time alone."""
NUM_AUDITS = 3
"""Most audits, each with other unseen requests; the largest share counts."""
MIN_SHARE_OF_AUDIT = 0.7
"""The smallest share of an unseen request's time that the timed ones may take: an honest program's
take as long as the fastest unseen one at least."""


def create(context: LaunchContext) -> InferenceTask:
    """The task of this launch; its program is built and not loaded."""
    return InferenceTask(context)


class InferenceTask:
    """One inference program; see `Task`."""

    def __init__(self, context: LaunchContext) -> None:
        self.program: RequestProgram = context.build()
        self.steps_per_turn = context.spec.task.steps_per_turn(context.launch.protocol)
        self.outputs: Any = None
        self._context = context
        self._checker = InferenceChecker(context, self.program)
        self._first: Answers | None = None
        self._num_asked = 0
        """Requests since the timed ones were fed."""
        self._timed: dict[int, np.ndarray] = {}
        """By batch, the last answer to a timed request whose answer the oracle holds."""
        self._sequences: dict[int, list[np.ndarray]] = {}
        """If a batch is a sequence: by batch, its answers in the turns, from its first on."""
        self._request_ns: list[int] = []

    def load(self) -> None:
        """Export and load the program, and feed it the timed requests."""
        self._load_program()
        self._context.enter("feed")
        self._context.keep_export()
        self._feed()

    def time_steps(self, num_steps: int, *, steps_per_sample: int | None = None) -> BlockTime:
        """Time this many requests, each by itself."""
        del steps_per_sample
        block = time_requests(
            self.program,
            self._context.framework,
            num_requests=num_steps,
            previous=self.outputs,
        )
        self.outputs = block.outputs
        self._notice(block)
        return block

    def step(self) -> Any:
        """Enqueue one request after its untimed preparation."""
        self._num_asked += 1
        self._context.framework.wait(self.program.prepare())
        return self.program.step()

    def read(self) -> Arrays:
        """The logits of the last request."""
        return self.program.read()

    def prove_first(self) -> None:
        """The gate: timing starts only if the answers to the proven requests match the oracle's.

        A launch that is held to a proven one answers the first of them, as that one has.
        """
        context, checker = self._context, self._checker
        proven = context.proven
        answers = checker.ask(GATE[:1] if proven else (*GATE, *checker.proven_timed()))
        checker.require_finite(answers)
        self._first = first_withheld(answers)
        context.evidence.step1 = first = checker.evidence(self._first)
        if proven is None:
            verdict = checker.judge(answers)
        else:
            limit = context.tolerance.get("logits")
            verdict = held_to(proven, first, context.tolerance, limit=limit)
        context.evidence.parity = verdict
        context.require_equal_work(verdict)
        self._feed()

    def begin_turns(self) -> None:
        """Forget the answers and times before the first turn."""
        self._timed.clear()
        self._sequences.clear()
        self._request_ns.clear()

    def keep(self, block: BlockTime, *, num_steps: int) -> None:
        """Remember the durations of a turn's requests."""
        del num_steps
        self._request_ns += block.sample_ns

    def prove_end(self) -> None:
        """The timed answers match the oracle's, and unseen requests take as long.

        Unseen requests must not be slower: this catches cached outputs. Requests that ran before
        the turns must give the same answers again. Unless the launch is held to a proven one, other
        answers of after the turns match the oracle's too, and free-running decode is checked if
        there is an oracle of this size.
        """
        assert self._first is not None
        context, checker = self._context, self._checker
        self._see_a_proven_one()
        require(list(checker.timed_check(self._timed)))
        self._prove_a_timed_sequence()
        answers = checker.ask(GATE[:1] if context.proven else (GATE[0], *AUDIT))
        checker.require_finite(answers)
        limit = context.tolerance.get("logits")
        require([reproduction_check(self._first, first_withheld(answers), limit)])
        if context.proven is None:
            context.require_equal_work(checker.judge(answers), when="after the turns: ")
            if context.oracle_folder is not None:
                require(list(checker.free_running_check()))
        self._audit()

    def prove_all(self, checks: Sequence[Check]) -> ParityVerdict:
        """Check the answers to all proven requests, and repeat the first of these."""
        context, checker = self._context, self._checker
        found = list(checks)
        self._load_program()
        context.enter("first_step")
        answers = checker.ask(checker.proven())
        first = first_withheld(answers)
        context.require_placement(checker.outputs)
        if context.keep_folder is not None:
            oracle_files.keep_answers(context.keep_folder, answers.logits)
        verdict = None
        if context.oracle_folder is None:
            checker.require_finite(answers)
        else:
            verdict = checker.judge(answers)
            found += verdict.checks
        if context.confirms:
            return final_verdict(verdict, found, CAUSES)
        if context.oracle_folder is not None:
            seen = context.inspect(self.program.inspect)
            found += integer_checks(seen, precision=context.launch.case.way.precision)
        found += checker.recomputed_check(first)
        found += checker.free_running_check()
        again = checker.ask(PROVEN[:1])
        found.append(reproduction_check(first, again, context.tolerance.get("logits")))
        return final_verdict(verdict, found, CAUSES)

    def _load_program(self) -> None:
        """Have the program export its model, and load the canonical weights.

        If an earlier launch's files were kept, there is no export and no such phase.
        """
        weights = self._context.initial()
        if self._context.kept_export is None:
            self._context.enter("export")
            self.program.export(weights)
        self._context.enter("load")
        self.program.load(weights)

    def _see_a_proven_one(self) -> None:
        """If no timed answer can be checked yet, continue until one that the oracle holds."""
        for _ in range(NUM_REQUESTS if self._checker.proven_timed() else 0):
            if self._timed:
                return
            self.time_steps(1)

    def _prove_a_timed_sequence(self) -> None:
        """A sequence of the turns, chosen by the parent's draw, is answered in the same way again.

        If there is an oracle of this size, its answers are also held to a full re-computation.
        """
        checker, context = self._checker, self._context
        if checker.per_batch == 1:
            return
        while not (whole := self._whole_sequences()):
            self.time_steps(1)
        index = whole[context.draw % len(whole)]
        answers = np.stack(self._sequences[index])
        checks = [checker.repeated_check(index, answers)]
        if context.proven is None and context.oracle_folder is not None:
            checks += checker.handed_out_check(index, answers)
        verdict = judge(checks, causes=[CAUSES[one.name] for one in checks if not one.passes])
        context.evidence.later_steps = verdict
        context.require_equal_work(verdict, when="a timed sequence: ")

    def _whole_sequences(self) -> list[int]:
        num = self._checker.per_batch
        return [index for index, answers in self._sequences.items() if len(answers) == num]

    def _audit(self) -> None:
        """Known requests take as long as unseen ones, in one of several audits at least."""
        per_audit = [NEW[number::NUM_AUDITS] for number in range(NUM_AUDITS)]
        if self._checker.per_batch > 1:  # a sequence is many requests
            per_audit = [unseen[:1] for unseen in per_audit]
        load, shares = OtherLoad(), [0.0]
        for unseen in per_audit:
            if len(shares) > 1:
                pause()
            shares.append(self._share_of(unseen))
            if max(shares) >= MIN_SHARE_OF_AUDIT:
                break
        require_share(self._context, max(shares), least=MIN_SHARE_OF_AUDIT, load=load)

    def _share_of(self, unseen: Sequence[int]) -> float:
        """What known requests take, as a share of what these unseen ones do.

        Known are those of the turns, by their median, and the unseen ones once they were answered,
        by the fastest: the smaller share counts.
        """
        self._checker.feed(unseen)
        num_requests = self._checker.per_batch * len(unseen)
        new_ns = self._timed_ns(num_requests)
        again_ns = self._timed_ns(num_requests)
        of_turns = statistics.median(self._request_ns or new_ns) / min(new_ns)
        return min(of_turns, min(again_ns) / min(new_ns))

    def _timed_ns(self, num_requests: int) -> list[int]:
        """The durations of the next requests."""
        return [self.time_steps(1).duration_ns for _ in range(num_requests)]

    def _feed(self) -> None:
        self._checker.feed(range(NUM_REQUESTS))
        self._num_asked = 0

    def _notice(self, block: BlockTime) -> None:
        """Keep the answers that the oracle holds too, and those of sequences."""
        for answer in block.answers:
            request, position = divmod(self._num_asked, self._checker.per_batch)
            batch = request % NUM_REQUESTS
            if batch in self._checker.proven_timed():
                self._timed[batch] = answer
            if self._checker.per_batch > 1:
                self._keep(batch, position, answer)
            self._num_asked += 1

    def _keep(self, batch: int, position: int, answer: np.ndarray) -> None:
        """Keep a sequence's answer, unless one before it was not timed."""
        if position == 0:
            self._sequences[batch] = []
        if len(self._sequences.get(batch, ())) == position:
            self._sequences.setdefault(batch, []).append(answer)
