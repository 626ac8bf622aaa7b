"""What every launch goes through: framework, program, weights and batches, phase by phase.

Standard library, NumPy, the contract and measuring.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.framework import Capabilities, Framework
from benchmarks.contract.message import Failed, LaunchRequest, Phase, ProofRequest
from benchmarks.contract.program import Arrays, Program, RequestProgram
from benchmarks.contract.workload import Tolerance, WorkloadSpec, problem_of
from benchmarks.equivalence import precision
from benchmarks.equivalence.checks import Check, first_failure
from benchmarks.equivalence.verdict import describe
from benchmarks.worker import canonical, oracle_files
from benchmarks.worker import settings as launch_settings
from benchmarks.worker.channel import Channel
from benchmarks.worker.tasks.training import proof


class LaunchFailedError(Exception):
    """The launch ends with a status of its own, found by a check and not by an exception."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class LaunchContext:
    """The state of a launch: what it has built, and the evidence collected so far."""

    framework: Framework
    program: Program
    """Of training."""
    requests_program: RequestProgram
    """Of inference: a launch has one of the two."""
    spec: WorkloadSpec

    def __init__(self, launch: LaunchRequest | ProofRequest, channel: Channel) -> None:
        self.launch = launch
        self.channel = channel
        self.capabilities: Capabilities | None = None
        self.evidence: dict[str, Any] = {}
        self.phase = "start"

    @property
    def tolerance(self) -> Tolerance:
        """The workload's tolerances in this launch's precision; empty where it has none."""
        return self.spec.tolerances.get(self.launch.case.way.precision, {})

    def failed(self, status: str, reason: str) -> Failed:
        """The message that ends this launch."""
        return Failed(status=status, reason=reason, phase=self.phase, evidence=self.evidence)

    def enter(self, phase: str) -> None:
        """Begin a phase, and say so."""
        self.phase = phase
        self.channel.send(Phase(phase))

    def import_framework(self) -> None:
        """Import the framework as its settings ask; ValueError where they cannot be had."""
        self.enter("import")
        package = importlib.import_module(self.launch.framework_module)
        self.capabilities = package.CAPABILITIES
        launch_settings.check(package.CAPABILITIES, self.launch.settings)
        launch_settings.check_environment(package.environment(self.launch.settings), os.environ)
        adapter = importlib.import_module(f"{self.launch.framework_module}.adapter")
        self.framework = adapter.Adapter()
        self.framework.configure(self.launch.settings)

    def check_precision(self) -> list[Check]:
        """The errors of products against float64, kept as evidence with what they are like."""
        checks = proof.precision_checks(self.framework, self.launch.case.way.precision)
        self.evidence["precision"] = {
            one.name: {"error": one.error, "like": precision.precision_like(one.error)}
            for one in checks
            if one.error is not None
        }
        return checks

    def build(self, replaced: Mapping[str, float] | None = None) -> None:
        """Build the program; `replaced` are hyperparameters other than the usual ones."""
        self.enter("build")
        specs = importlib.import_module(self.launch.spec_module).SPECS
        self.spec = specs[self.launch.case.work.workload]
        scratch = self.launch.settings.scratch_folder
        problem = problem_of(
            self.launch.case, self.spec, scratch_folder=scratch, exporters=self.launch.exporters
        )
        if replaced:
            values = {**problem.hyperparameters, **replaced}
            problem = dataclasses.replace(problem, hyperparameters=values)
        implementation = importlib.import_module(self.launch.implementation_module)
        program = implementation.build(problem, self.framework)
        if self.spec.requests is None:
            self.program = program
        else:
            self.requests_program = program

    def load_requests_program(self) -> None:
        """Have the inference program export what it runs, and take the canonical weights."""
        weights = self.initial()
        self.enter("export")
        self.requests_program.export(weights)
        self.enter("load")
        self.requests_program.load(weights)

    def load(self, *, first_batch: int = 0) -> None:
        """Load the canonical weights, and the batches from one on, the earlier ones last."""
        folder = Path(self.launch.data_folder)
        self.program.load(canonical.read_weights(folder))
        batches = canonical.read_batches(folder)
        self.program.feed([*batches[first_batch:], *batches[:first_batch]])

    def first_loss(self, *, batch: int) -> float:
        """The loss of one step from the canonical weights on this batch."""
        self.load(first_batch=batch)
        loss = self.program.step()
        self.framework.wait(loss)
        return float(self.framework.get(loss))

    def first_step(self, *, batch: int = 0) -> Arrays:
        """What the program holds after one step from the canonical weights on this batch."""
        self.load(first_batch=batch)
        self.framework.wait(self.program.step())
        return self.program.read()

    def initial(self) -> dict[str, np.ndarray]:
        """The canonical weights."""
        return canonical.read_weights(Path(self.launch.data_folder))

    def known_mistakes(self) -> Iterator[tuple[str, float]]:
        """Known mistakes of the forward pass, each with the loss of step 1 that it leads to."""
        folder = Path(self.launch.data_folder)
        first = canonical.read_batches(folder)[0]
        return self.spec.known_mistakes(
            self.launch.case.work, canonical.read_weights(folder), first
        )

    def oracle(self) -> oracle_files.Oracle | None:
        """The oracle that this launch is checked against, if there is one."""
        folder = self.launch.oracle_folder
        if folder is None:
            return None
        return oracle_files.load(Path(folder), identity=Path(folder).name)

    def inspect(self) -> dict[str, Any]:
        """What the program says that it works with, kept as evidence.

        An inspection that fails is said to have failed: it takes nothing from what was measured,
        but in int8, where what it tells is a check (`integer_checks`).
        """
        program = self.program if self.spec.requests is None else self.requests_program
        try:
            found = dataclasses.asdict(program.inspect())
        except Exception as error:  # noqa: BLE001 - a framework's tracing may raise anything
            found = {"failure": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        self.evidence["effective"] = found
        return found


def require(checks: list[Check]) -> None:
    """LaunchFailedError where a check does not pass."""
    failed = first_failure(checks)
    if failed is not None:
        raise LaunchFailedError("invalid_work", describe(failed))
