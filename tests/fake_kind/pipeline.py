"""The worker's side of the third kind: batches are timed in blocks, and compared whole."""

from __future__ import annotations

import numpy as np

from benchmarks.contract.evidence import UNPROVEN, FirstStep, ParityVerdict
from benchmarks.equivalence.checks import check
from benchmarks.equivalence.verdict import judge
from benchmarks.worker.tasks.protocol import NO_ORACLE, final_verdict
from benchmarks.worker.timing import time_block

FILE = "batch.npy"


def create(context):
    return PipelineTask(context)


class PipelineTask:
    """One pipeline; see `benchmarks.worker.tasks.protocol.Task`."""

    def __init__(self, context) -> None:
        self.program = context.build()
        self.steps_per_turn = None
        self.outputs = None
        self.context = context

    def load(self) -> None:
        self.context.enter("load")
        self.program.load(self.context.initial())
        self.program.feed(self.context.batches())

    def time_steps(self, num_steps, *, steps_per_sample=None):
        block = time_block(
            self.program,
            self.context.framework,
            num_steps=num_steps,
            previous=self.outputs,
            steps_per_sample=steps_per_sample,
        )
        self.outputs = block.outputs
        return block

    def step(self):
        return self.program.step()

    def read(self):
        return self.program.read()

    def prove_first(self) -> None:
        verdict = self._verdict()
        self.context.evidence.parity = verdict
        self.context.evidence.step1 = FirstStep(loss=float(self.read()["batch"].mean()))
        self.context.evidence.numbers["batch_bytes"] = float(self.read()["batch"].nbytes)
        self.context.require_equal_work(verdict)

    def begin_turns(self) -> None:
        pass

    def keep(self, block, *, num_steps) -> None:
        pass

    def prove_end(self) -> None:
        self.load()
        self.program.step()
        self.context.require_equal_work(self._verdict(), when="at the end: ")

    def prove_all(self, checks):
        self.load()
        self.context.enter("first_step")
        self.program.step()
        if self.context.keep_folder is not None:
            np.save(self.context.keep_folder / FILE, self.read()["batch"])
        if self.context.oracle_folder is None:
            return final_verdict(None, checks, {})
        verdict = self._verdict()
        return final_verdict(verdict, [*checks, *verdict.checks], {"batch": "the scale"})

    def _verdict(self) -> ParityVerdict:
        folder = self.context.oracle_folder
        if folder is None:
            return ParityVerdict(UNPROVEN, reason=NO_ORACLE)
        error = float(np.abs(self.read()["batch"] - np.load(folder / FILE)).max())
        return judge(
            [check("batch", error, self.context.tolerance["batch"])],
            oracle=folder.name,
        )
