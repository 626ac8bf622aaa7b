"""Runs an inference program's requests and compares its answers with the oracle's.

Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.contract.evidence import UNPROVEN, Check, FirstStep, ParityVerdict
from benchmarks.contract.mistake import OtherConstant
from benchmarks.contract.precision import PRECISIONS
from benchmarks.contract.program import RequestProgram
from benchmarks.contract.task import NUM_REQUESTS, WITHHELD, Inference
from benchmarks.equivalence.answers import (
    Answers,
    Suspects,
    judge_answers,
    likely_causes,
)
from benchmarks.equivalence.checks import check
from benchmarks.equivalence.norms import relative
from benchmarks.worker import oracle_files
from benchmarks.worker.context import LaunchContext, LaunchFailedError
from benchmarks.worker.tasks.protocol import NO_ORACLE

PROVEN = WITHHELD[:4]
"""The withheld requests whose answers the oracle holds. The other withheld ones only need to be
unseen."""
NUM_TIMED_PROVEN = 2
"""Timed batches whose answers the oracle holds too, if a batch is one request."""


CAUSES = {
    "recomputed": "the KV cache, or the positions of decoded tokens",
    "handed_out": "the KV cache, or what a timed sequence was fed, differs from an untimed one's",
    "repeated": "timed requests are answered in another way than the same requests later",
    "answer": "the returned token or logits are not those of this request",
}
"""The likely mistake if the proven answers agree with the oracle and this check fails."""


class InferenceChecker:
    """Runs requests through one program, and judges its answers."""

    def __init__(self, context: LaunchContext, program: RequestProgram) -> None:
        assert isinstance(context.spec.task, Inference)
        self._context = context
        self._program = program
        self._requests = context.spec.task
        self.per_batch = self._requests.per_batch(context.launch.case.work)
        self.outputs: Any = None
        """The value that the last request's step returned."""

    def proven(self) -> tuple[int, ...]:
        """The batches whose answers the oracle holds: some withheld ones and some timed ones."""
        return (*PROVEN, *self.proven_timed())

    def proven_timed(self) -> tuple[int, ...]:
        """The timed batches whose answers the oracle holds.

        There are none if a batch is a sequence: when it is timed, each request depends on the
        program's own output, which the oracle does not know.
        """
        return tuple(range(NUM_TIMED_PROVEN)) if self.per_batch == 1 else ()

    def feed(self, indices: Sequence[int]) -> None:
        """Feed these canonical batches to the program."""
        batches = self._context.batches()
        self._program.feed([batches[index] for index in indices])

    def ask(self, indices: Sequence[int]) -> Answers:
        """Run every request of these batches; the answers."""
        self.feed(indices)
        logits, answer_error = {}, 0.0
        for index in indices:
            rows = []
            for _ in range(self.per_batch):
                answer = self._answer()
                read = self._program.read()
                rows.append(np.asarray(read["logits"]))
                answer_error = max(answer_error, self.answer_error(answer, read))
            logits[f"batch{index}"] = np.stack(rows)
        return self._answers(logits, answer_error)

    def answer_error(self, answer: np.ndarray, read: Mapping[str, np.ndarray]) -> float:
        """The difference between an answer on the host and the one that these logits give."""
        return float(self._requests.answer_error(answer, read))

    def judge(self, answers: Answers) -> ParityVerdict:
        """The verdict on answers compared with the oracle's; unproven if there is no oracle."""
        context, folder = self._context, self._context.oracle_folder
        if folder is None:
            return ParityVerdict(UNPROVEN, reason=NO_ORACLE)
        return judge_answers(
            answers,
            oracle_files.load_answers(folder),
            context.tolerance,
            identity=folder.name,
            suspects=Suspects(self._known_mistakes, self._other_constants, self._coarsest()),
        )

    def evidence(self, answers: Answers) -> FirstStep:
        """The numbers to compare with another program's if no oracle can be computed."""
        logits_NV = next(iter(answers.logits.values()))
        logits_NV = logits_NV.reshape(-1, logits_NV.shape[-1]).astype(np.float64)
        rows = np.arange(len(logits_NV))
        largest_N = logits_NV.max(-1)
        sums_N = np.log(np.exp(logits_NV - largest_N[:, None]).sum(-1)) + largest_N
        chosen_N = logits_NV[rows, rows % logits_NV.shape[-1]]
        return FirstStep(
            loss=float((sums_N - chosen_N).mean()),
            answer_norm=float(np.linalg.norm(logits_NV)),
            num_logits=logits_NV.size,
        )

    def recomputed_check(self, answers: Answers) -> Iterator[Check]:
        """Whether cached decode gives the logits of a full re-computation, if the spec has one."""
        if self._requests.recompute is None:
            return
        name = next(iter(answers.logits))
        full = self._requests.recompute(self._context.launch.case.work, *self._inputs(name))
        error = relative(answers.logits[name], full)
        yield check("recomputed", error, self._context.tolerance.get("logits"))

    def free_running_check(self) -> Iterator[Check]:
        """Whether free-running decode is right: the program continues from its own output.

        The proven sequences have forced tokens, so they do not show this.
        """
        requests, tolerance = self._requests, self._context.tolerance
        if requests.free_running is None or self.per_batch == 1:
            return
        followed = self._context.draw % NUM_REQUESTS
        self.feed([followed])
        answers, logits, is_answered = [], [], True
        for _ in range(self.per_batch):
            answers.append(self._answer())
            read = self._program.read()
            logits.append(np.asarray(read["logits"]))
            is_answered &= self.answer_error(answers[-1], read) == 0
        error = math.inf
        if is_answered:
            work, inputs = self._context.launch.case.work, self._inputs(f"batch{followed}")
            own = np.stack(answers), np.stack(logits)
            error = relative(own[1], requests.free_running(work, *inputs, *own, tolerance))
        yield check("continued", error, tolerance.get("logits"))

    def timed_check(self, timed: Mapping[int, np.ndarray]) -> Iterator[Check]:
        """Whether answers to timed requests, by batch, match those that the oracle holds."""
        folder = self._context.oracle_folder
        known = {} if folder is None else oracle_files.load_answers(folder)
        errors = [
            self.answer_error(answer, {"logits": known[f"batch{index}"][0]})
            for index, answer in timed.items()
            if f"batch{index}" in known
        ]
        if errors:
            yield check("timed", max(errors), self._context.tolerance.get("timed"))

    def handed_out_check(self, index: int, answers: np.ndarray) -> Iterator[Check]:
        """Whether these timed answers RB of a sequence follow from its logits, if the spec can say.

        The program continued from its own output then, as always when it is timed.
        """
        requests, tolerance = self._requests, self._context.tolerance
        if requests.handed_out is None:
            return
        work, inputs = self._context.launch.case.work, self._inputs(f"batch{index}")
        logits = requests.handed_out(work, *inputs, answers, tolerance)
        error = max(self.answer_error(*one) for one in _rows(answers, logits))
        yield check("handed_out", error, tolerance.get("timed"))

    def repeated_check(self, index: int, answers: np.ndarray) -> Check:
        """Whether the program gives the same answers RB to a timed sequence again.

        Up to the first answer that differs, both had the same input; there the timed one must have
        been as likely within rounding.
        """
        self.feed([index])
        error = 0.0
        for timed in answers:
            again = self._answer()
            if not np.array_equal(again, timed):
                error = self.answer_error(timed, self._program.read())
                break
        return check("repeated", error, self._context.tolerance.get("timed"))

    def _answer(self) -> np.ndarray:
        framework = self._context.framework
        framework.wait(self._program.prepare())
        self.outputs = self._program.step()
        framework.wait(self.outputs)
        return framework.get(self.outputs)

    def _answers(self, logits: Mapping[str, np.ndarray], answer_error: float) -> Answers:
        case, num_bytes = self._context.launch.case, self._requests.num_weight_bytes
        return Answers(
            logits,
            answer_error,
            artefact_bytes=self._program.artefact_bytes(),
            weight_bytes=None if num_bytes is None else num_bytes(case),
        )

    def require_finite(self, answers: Answers) -> None:
        """LaunchFailedError with the likely cause if an answer is not finite."""
        bad = [name for name, one in answers.logits.items() if not np.isfinite(one).all()]
        if bad:
            cause = next(likely_causes(answers, {}, {}), None)
            likely = f"; likely: {cause}" if cause else ""
            raise LaunchFailedError("nonfinite", f"answers to {bad[0]} are not finite{likely}")

    def _known_mistakes(self, name: str) -> Iterator[tuple[str, np.ndarray]]:
        return self._requests.known_mistakes(self._context.launch.case.work, *self._inputs(name))

    def _other_constants(self, name: str) -> Iterator[OtherConstant]:
        return self._requests.other_constants(self._context.launch.case.work, *self._inputs(name))

    def _coarsest(self) -> float:
        """The largest error that this launch's own matmuls may explain."""
        if self._context.products_are_exact:
            return 0.0
        tolerances = self._context.spec.tolerances.items()
        # A quantised precision's tolerances are so wide that they would explain any error.
        known = [one for name, one in tolerances if not PRECISIONS[name].is_quantised]
        return max((one.get("logits", 0.0) for one in known), default=0.0)

    def _inputs(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The weights, and the batch of this name."""
        batches = self._context.batches()
        return self._context.initial(), batches[int(name.removeprefix("batch"))]


def _rows(
    answers: np.ndarray, logits: np.ndarray
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    for answer, row in zip(answers, logits):
        yield answer, {"logits": row}


def reproduction_check(first: Answers, again: Answers, limit: float | None) -> Check:
    """Whether the same requests get the same answers again."""
    error = max(relative(again.logits[name], first.logits[name]) for name in again.logits)
    return check("reproduced", error, limit)


def first_withheld(answers: Answers) -> Answers:
    """The answers to the first batch alone."""
    name = next(iter(answers.logits))
    return dataclasses.replace(answers, logits={name: answers.logits[name]})
