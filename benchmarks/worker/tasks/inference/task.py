"""The trial of an inference program: requests one by one, and the proof that they are answered.

Standard library, NumPy, the contract and measuring.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import numpy as np

from benchmarks.contract.message import LaunchRequest
from benchmarks.contract.program import Arrays
from benchmarks.contract.workload import NUM_REQUESTS, WITHHELD
from benchmarks.equivalence.answers import Answers
from benchmarks.equivalence.verdict import FAIL
from benchmarks.worker.context import LaunchContext, LaunchFailedError, require
from benchmarks.worker.tasks.inference.proof import (
    PROVEN,
    InferenceChecker,
    first_withheld,
    reproduction_check,
)
from benchmarks.worker.tasks.protocol import MIN_SHARE_OF_AUDIT, require_share
from benchmarks.worker.timing import BlockTime, time_requests

GATE, AUDIT = PROVEN[:2], PROVEN[2:]
"""The proven requests that are asked before the turns, and those that are new after them."""
NEW = tuple(index for index in WITHHELD if index not in PROVEN)
"""Others that are new then, for their time."""


class RequestTrial:
    """One inference program under trial; see `Trial`."""

    def __init__(self, context: LaunchContext) -> None:
        assert isinstance(context.launch, LaunchRequest)
        self._launch = context.launch
        self.steps_per_turn: int | None = context.launch.protocol.requests_per_turn
        self.outputs: Any = None
        self._context = context
        self._program = context.requests_program
        self._checker = InferenceChecker(context)
        self._first: Answers | None = None
        self._num_asked = 0
        """Requests since the timed ones were fed."""
        self._timed: dict[int, np.ndarray] = {}
        """By batch the last answer to a timed request, of those that the oracle knows."""
        self._request_ns: list[int] = []

    def load(self) -> None:
        """Go through export and load, and put the requests before the program."""
        self._context.load_requests_program()
        self._context.enter("feed")
        self._feed()

    def time_steps(self, num_steps: int, *, rewarm: bool) -> BlockTime:
        """Time as many requests."""
        block = time_requests(
            self._program,
            self._context.framework,
            num_requests=num_steps,
            previous=self.outputs,
            rewarm=rewarm,
        )
        self.outputs = block.outputs
        self._num_asked += rewarm
        self._notice(block)
        return block

    def step(self) -> Any:
        """Enqueue one request, once what it finds is there."""
        self._num_asked += 1
        self._context.framework.wait(self._program.prepare())
        return self._program.step()

    def read(self) -> Arrays:
        """What is known of the last request."""
        return self._program.read()

    def prove_first(self) -> None:
        """The gate: every answer to the proven requests is the oracle's, or nothing is timed."""
        answers = self._checker.ask((*GATE, *self._checker.proven_timed()))
        self._checker.require_finite(answers)
        self._first = first_withheld(answers)
        self._context.evidence["step1"] = dataclasses.asdict(self._checker.evidence(self._first))
        verdict = self._checker.judge(answers)
        self._context.evidence["parity"] = verdict.to_json()
        if verdict.status == FAIL:
            raise LaunchFailedError("invalid_work", str(verdict.reason))
        self._feed()

    def begin_turns(self) -> None:
        """Forget what was answered before the first turn."""
        self._timed.clear()
        self._request_ns.clear()

    def keep(self, block: BlockTime, *, num_steps: int) -> None:
        """Remember how long the requests of a turn took."""
        del num_steps
        self._request_ns += block.request_ns

    def prove_end(self) -> None:
        """The timed answers are the oracle's, and requests that are new take as long.

        Whatever is quick because it knows the answers by now is not with these; what was answered
        before the turns is answered as it was. A sequence is followed that goes on with the
        program's own answers, where there is an oracle of this size.
        """
        assert self._first is not None
        self._see_a_proven_one()
        require(list(self._checker.timed_check(self._timed)))
        share = self._share_of_new()
        answers = self._checker.ask((GATE[0], *AUDIT))
        self._checker.require_finite(answers)
        limit = self._context.tolerance.get("logits")
        require([reproduction_check(self._first, first_withheld(answers), limit)])
        verdict = self._checker.judge(answers)
        if verdict.status == FAIL:
            raise LaunchFailedError("invalid_work", f"after the turns: {verdict.reason}")
        if self._launch.inspects and self._launch.oracle_folder is not None:
            require(list(self._checker.free_running_check()))
        require_share(self._context, share)

    def _see_a_proven_one(self) -> None:
        """Go on with the timed requests up to one that the oracle knows, where few were timed."""
        for _ in range(NUM_REQUESTS if self._checker.proven_timed() else 0):
            if self._timed:
                return
            self.time_steps(1, rewarm=False)

    def _share_of_new(self) -> float:
        """The time of the timed requests in that of the quickest of some that are new.

        As many as it takes to see one that nothing has disturbed.
        """
        self._checker.feed(NEW)
        new_ns: list[int] = []
        share = 0.0
        while len(new_ns) < self._checker.per_batch * len(NEW) and share < MIN_SHARE_OF_AUDIT:
            new_ns.append(self.time_steps(1, rewarm=False).duration_ns)
            share = statistics.median(self._request_ns or new_ns) / min(new_ns)
        return share

    def _feed(self) -> None:
        self._checker.feed(range(NUM_REQUESTS))
        self._num_asked = 0

    def _notice(self, block: BlockTime) -> None:
        """Keep the answers to requests that the oracle knows."""
        for answer in block.answers:
            batch = self._num_asked // self._checker.per_batch % NUM_REQUESTS
            if batch in self._checker.proven_timed():
                self._timed[batch] = answer
            self._num_asked += 1
