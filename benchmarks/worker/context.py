"""The state of one launch, and the phases that every launch shares: import, precision, build.

Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import numpy as np

from benchmarks.contract.evidence import (
    FAIL,
    Check,
    Evidence,
    ParityVerdict,
    ProductPrecision,
    Proven,
    Tested,
)
from benchmarks.contract.framework import Capabilities, Framework
from benchmarks.contract.message import Failed, LaunchRequest, Phase, ProofRequest
from benchmarks.contract.optimizer import Optimizer
from benchmarks.contract.program import Effective
from benchmarks.contract.task import Tolerance
from benchmarks.contract.workload import WorkloadSpec, problem_of
from benchmarks.equivalence import precision
from benchmarks.equivalence.checks import first_failure
from benchmarks.equivalence.verdict import describe
from benchmarks.worker import canonical, exports
from benchmarks.worker import settings as launch_settings
from benchmarks.worker.channel import Channel
from benchmarks.worker.precision import precision_checks


class LaunchFailedError(Exception):
    """A check has failed: the launch ends with this status."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class LaunchContext:
    """The state of a launch: its framework and the evidence collected so far."""

    framework: Framework

    def __init__(self, launch: LaunchRequest | ProofRequest, channel: Channel) -> None:
        self.launch = launch
        self.channel = channel
        self.capabilities: Capabilities | None = None
        self.evidence = Evidence()
        self.phase = "start"
        self.products_are_exact = True
        """Whether the framework's matmul and convolution are as exact as the precision asks."""

    @functools.cached_property
    def spec(self) -> WorkloadSpec:
        """The workload's mathematics."""
        specs = importlib.import_module(self.launch.spec_module).SPECS
        spec: WorkloadSpec = specs[self.launch.case.work.workload]
        return spec

    @property
    def tolerance(self) -> Tolerance:
        """The workload's tolerances in this launch's precision; empty if it has none."""
        return self.spec.tolerances.get(self.launch.case.way.precision, {})

    def failed(self, status: str, reason: str) -> Failed:
        """The message that ends this launch."""
        return Failed(status=status, reason=reason, phase=self.phase, evidence=self.evidence)

    def enter(self, phase: str) -> None:
        """Begin a phase, and tell the parent."""
        self.phase = phase
        self.channel.send(Phase(phase))

    def import_framework(self) -> None:
        """Import and configure the framework; ValueError if it cannot run with the settings."""
        self.enter("import")
        package = importlib.import_module(self.launch.framework_module)
        self.capabilities = package.CAPABILITIES
        launch_settings.check(package.CAPABILITIES, self.launch.settings)
        launch_settings.check_environment(package.environment(self.launch.settings), os.environ)
        adapter = importlib.import_module(f"{self.launch.framework_module}.adapter")
        self.framework = adapter.Adapter()
        self.framework.configure(self.launch.settings)

    def check_precision(self) -> list[Check]:
        """The errors of a matmul and a convolution against float64, also kept as evidence."""
        checks = precision_checks(self.framework, self.launch.case.way.precision)
        self.evidence.precision = {
            one.name: ProductPrecision(one.error, precision.precision_like(one.error))
            for one in checks
            if one.error is not None
        }
        self.products_are_exact = first_failure(checks) is None
        return checks

    def take_over(self, tested: Tested) -> None:
        """Keep what another launch's self-tests have shown of the framework as evidence."""
        self.evidence.tested_by = tested.launch_id
        self.evidence.precision = dict(tested.precision)
        self.evidence.fence = tested.fence
        self.evidence.roof_flop_per_s = tested.fence.roof_flop_per_s
        self.products_are_exact = True

    def build(self, replaced: Mapping[str, float] | None = None) -> Any:
        """The program, without weights; `replaced` overrides some of the hyperparameters."""
        problem = problem_of(
            self.launch.case,
            self.spec,
            scratch_folder=self.launch.settings.scratch_folder,
            export_folder=str(self.kept_export or self._own_export()),
            exporters=self.launch.exporters,
        )
        if replaced:
            values = {**problem.hyperparameters, **replaced}
            problem = dataclasses.replace(problem, hyperparameters=values)
        implementation = importlib.import_module(self.launch.implementation_module)
        return implementation.build(problem, self.framework)

    @functools.cached_property
    def kept_export(self) -> Path | None:
        """The folder of files that an earlier launch has exported, if they are whole."""
        folder = self._export_folder
        return folder if folder is not None and exports.is_whole(folder) else None

    def keep_export(self) -> None:
        """Keep what this launch has exported for later ones, unless it was kept already."""
        if self._export_folder is not None and self.kept_export is None:
            with contextlib.suppress(OSError):  # a full disk: the next launch exports again
                exports.keep(self._own_export(), self._export_folder)

    def _own_export(self) -> Path:
        folder = Path(self.launch.settings.scratch_folder) / "exported"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def _export_folder(self) -> Path | None:
        folder = self.launch.export_folder if isinstance(self.launch, LaunchRequest) else None
        return None if folder is None else Path(folder)

    def initial(self) -> dict[str, np.ndarray]:
        """The canonical weights."""
        return canonical.read_weights(Path(self.launch.data_folder))

    def batches(self) -> list[dict[str, np.ndarray]]:
        """The canonical batches."""
        return canonical.read_batches(Path(self.launch.data_folder))

    @property
    def oracle_folder(self) -> Path | None:
        """The folder of the oracle that this launch is checked against, if there is one."""
        folder = self.launch.oracle_folder
        return None if folder is None else Path(folder)

    @property
    def keep_folder(self) -> Path | None:
        """The folder for the results of a program that computes the oracle; None otherwise."""
        folder = self.launch.keep_folder if isinstance(self.launch, ProofRequest) else None
        return None if folder is None else Path(folder)

    @property
    def proven(self) -> Proven | None:
        """What an earlier launch has proven, to which this one is held; None: it proves all."""
        return self.launch.proven if isinstance(self.launch, LaunchRequest) else None

    @property
    def optimizer(self) -> Optimizer | None:
        """The update that every step must make; None if it is not known."""
        differs = isinstance(self.launch, LaunchRequest) and self.launch.differs
        return None if differs else self.spec.optimizer

    @property
    def draw(self) -> int:
        """The number that the parent drew for this launch; 0 in a proof."""
        return self.launch.draw if isinstance(self.launch, LaunchRequest) else 0

    @property
    def confirms(self) -> bool:
        """Whether this is a proof that only confirms the oracle."""
        return isinstance(self.launch, ProofRequest) and self.launch.confirms

    @property
    def follows(self) -> bool:
        """Whether this is a proof that also compares ten consecutive training steps."""
        return isinstance(self.launch, ProofRequest) and self.launch.follows

    def require_placement(self, outputs: Any) -> None:
        """LaunchFailedError if these values lie on another kind of device than requested."""
        asked = self.launch.settings.device
        real = self.framework.placement(outputs)
        self.evidence.placement = real
        if real != asked:
            raise LaunchFailedError("not_placed", f"asked to run on {asked}, ran on {real}")

    def require_equal_work(self, verdict: ParityVerdict, *, when: str = "") -> None:
        """LaunchFailedError if this verdict is a failure; its reason gets the prefix `when`."""
        if verdict.status == FAIL:
            raise LaunchFailedError("invalid_work", f"{when}{verdict.reason}")

    def inspect(self, inspect: Callable[[], Effective]) -> Effective | None:
        """The dtypes and kernels that a program reports, kept as evidence; None if that fails.

        A failed inspection does not invalidate the measurement, except in int8: there the report
        itself is checked (`integer_checks`).
        """
        try:
            self.evidence.effective = inspect()
        except Exception as error:  # noqa: BLE001 - a framework's tracing may raise anything
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.evidence.inspection_failure = text
        return self.evidence.effective


def require(checks: list[Check]) -> None:
    """LaunchFailedError if a check does not pass."""
    failed = first_failure(checks)
    if failed is not None:
        raise LaunchFailedError("invalid_work", describe(failed))
