"""Faults that begin after step 1 are found in a launch of `dyno run`, and named.

A run's first launch of a case proves it in full; what its later launches do in another way is found
there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.contract.evidence import Proven
from tests.parity import planted_later
from tests.parity.fault_process import FaultProcess, Group

FRAMEWORKS = ("pytorch", "jax")
FAULTS = {
    "resnet50_train": {
        "skipped_updates": ("invalid_work", "a step changes the moments and not the weights"),
        "no_zero_grad": ("invalid_work", "gradients are added up from step to step"),
        "dampened": ("invalid_work", "the gradient enters the moments 0.9 times"),
        "no_low_gradient": ("invalid_work", "no gradient reaches stem/conv/kernel"),
        "bf16": ("invalid_work", "later steps compute something else"),
        "stored_in_bf16": ("invalid_work", "against the program's own moments"),
        "unless_looked_at": ("invalid_work", "work is left out unless checked|they skipped work"),
        "batch_order": ("invalid_work", "batches in another order"),
        "spoofed_duration": ("invalid_report", "the worker's clock or report is wrong"),
        "spoofed_steps": ("invalid_report", "reported steps"),
        "outliving": ("invalid_sync or invalid_work", ""),
        "more_threads": ("not_placed", "asked to run on 1 CPU thread(s), had work for"),
    },
    "transformer_finetune": {
        "half_batch": ("invalid_work", "a part of its batch: the first half"),
        "no_bias_correction": ("invalid_work", "Adam's bias correction is missing"),
        "slow_clock": ("invalid_report", "the worker's clock or report is wrong"),
    },
    "resnet50_infer": {
        "cached_by_half": ("invalid_work", "they skipped work"),
    },
    "transformer_infer": {
        "short_decode": ("invalid_work", "answers of a timed sequence"),
    },
}
"""For each fault the status of the launch, and what its reason says (`|`: one of these)."""
PROVEN_ONCE = ("unless_looked_at", "no_bias_correction")
"""Faults that are found in the proving launch alone: in each launch the same code runs."""
OF_QUEUES = ("unless_looked_at", "batch_order", "spoofed_duration", "outliving", None)
"""Those that a framework which computes while Python goes on may hide in a way of its own."""
PHASES = {"transformer_infer": "decode"}
UNACCUSED = ("ok", "disturbed")
"""How an honest launch may end beside other tests."""
TOLD_BY_TIME, MAX_TRIES = ("outliving", "cached_by_half", "more_threads"), 3
"""Faults that only durations tell, which other tests on this machine may hide once or twice."""


class Later(NamedTuple):
    """A fault in a framework's program, or None for the program as it is."""

    workload: str
    framework: str
    fault: str | None
    is_held: bool
    """Whether the launch is held to a proven one."""

    @property
    def id(self) -> str:
        launch = "held" if self.is_held else "proving"
        return f"{self.workload}-{self.framework}-{self.fault or 'honest'}-{launch}"

    @property
    def repeats(self) -> bool:
        """Whether it shows little that others of these do not show sooner."""
        if self.is_held:
            return self.framework == "jax" or self.workload != "resnet50_train"
        return self.framework == "jax" and self.fault not in OF_QUEUES


LATER = [
    pytest.param(
        found := Later(workload, framework, fault, is_held),
        id=found.id,
        marks=[pytest.mark.slow] if found.repeats else [],
    )
    for framework in FRAMEWORKS
    for workload, faults in FAULTS.items()
    for fault in (*faults, None)  # the worker finds the faults' folder if it begins with one
    for is_held in (False, True)
    if not (is_held and fault in PROVEN_ONCE)
]


class Processes:
    """A process for the faults of one group, which come one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._group: Group | None = None
        self._process: FaultProcess | None = None
        self._proven: dict[tuple[str, str], Proven] = {}

    def of(self, later: Later) -> FaultProcess:
        group = Group(later.workload, later.framework, "fp32")
        if self._process is None or group != self._group:
            self.close()
            self._process, self._group = self._made(later).__enter__(), group
        return self._process

    def proven(self, later: Later) -> Proven:
        """What an honest launch has proven of the workload, in a process of its own."""
        key = (later.workload, later.framework)
        if key not in self._proven:
            with self._made(later) as process:
                found = process.outcome(None, phase=PHASES.get(later.workload), draw=4)
            assert found.proven is not None, found.reason
            self._proven[key] = found.proven
        return self._proven[key]

    def _made(self, later: Later) -> FaultProcess:
        return FaultProcess(
            Group(later.workload, later.framework, "fp32"),
            folder=self._folder,
            cache=self._folder / "cache",
            module=planted_later.__name__,
        )

    def close(self) -> None:
        if self._process is not None:
            self._process.__exit__(None, None, None)
        self._process = None


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    made = Processes(tmp_path_factory.mktemp("later"))
    yield made
    made.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("later", LATER)
def test_a_later_fault_is_found_and_named(later: Later, processes: Processes) -> None:
    for _ in range(MAX_TRIES if later.fault in TOLD_BY_TIME else 1):
        process = processes.of(later)
        phase = PHASES.get(later.workload)
        proven = processes.proven(later) if later.is_held else None
        status, reason, _ = process.outcome(later.fault, phase=phase, draw=5, proven=proven)
        if status != "ok":
            break
    if later.fault is None:
        assert status in UNACCUSED, reason
        return
    expected, words = FAULTS[later.workload][later.fault]
    assert status in expected.split(" or "), reason
    assert any(word in str(reason) for word in words.split("|")), reason
