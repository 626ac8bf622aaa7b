"""Runs proofs: one process for each, which ends as a verdict."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.contract.case import Case
from benchmarks.contract.evidence import FAIL, Evidence, ParityVerdict
from benchmarks.contract.message import ProofRequest
from benchmarks.contract.plan import Interpreter, MachineConfig, Plan
from benchmarks.contract.program import Exporter
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.units import in_gib
from benchmarks.host import machine
from benchmarks.planning.catalog import Catalog
from benchmarks.planning.identity import proof_key
from benchmarks.planning.interpreters import resolve
from benchmarks.planning.sources import Sources, implementation_hash, proving_hash
from benchmarks.running.guard import Guard
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch
from benchmarks.running.preparation import (
    DataError,
    Folders,
    command_of,
    data_folder,
    prepare_data,
    settings_of,
)
from benchmarks.running.process import Command, Worker
from benchmarks.running.stopping import Stopping

_numbers = itertools.count()


@dataclass(frozen=True)
class Proof:
    """The result of one proof."""

    verdict: ParityVerdict
    evidence: Evidence = field(default_factory=Evidence)
    settings: Mapping[str, Any] = field(default_factory=dict)
    status: str = "ok"
    """How the process ended, as a status of records."""
    log: Path | None = None


class ProofStoppedError(Exception):
    """A proof was not made, because a stop was requested."""


@dataclass
class Prover:
    """Runs proofs, one at a time."""

    catalog: Catalog
    machine_config: MachineConfig
    protocol: MeasuringProtocol
    """The protocol, for its time limits."""
    folders: Folders
    guard: Guard
    stopping: Stopping
    memory_limit_bytes: int
    on_phase: Callable[[str, str], None]
    """Called with the case_id and the phase that its proof enters."""
    _interpreters: dict[str, Interpreter | str] = field(default_factory=dict)

    def interpreter(self, framework: str) -> Interpreter | str:
        """The framework's interpreter, or why it is not installed."""
        if framework not in self._interpreters:
            self._interpreters |= resolve(self.catalog, self.machine_config, [framework])
        return self._interpreters[framework]

    def prove(
        self,
        case: Case,
        *,
        oracle: Path | None = None,
        keep: Path | None = None,
        follows: bool = True,
        confirms: bool = False,
    ) -> Proof:
        """The verdict on a case whose framework is installed, against the oracle in this folder.

        A case that computes the oracle writes its results below `keep`. Raises ProofStoppedError if
        a stop is requested; any other failure becomes a verdict.
        """
        launch_id = f"proof-{os.getpid()}-{next(_numbers)}-{case.way.framework}"
        request = self._request(case, launch_id, oracle=oracle, keep=keep, follows=follows)
        request = replace(request, confirms=confirms)
        limit_s = self.protocol.timeout_s("load")
        try:
            prepare_data(self.catalog, case.work, self.folders, timeout_s=limit_s)
        except DataError as error:
            return Proof(ParityVerdict(FAIL, reason=str(error)), status="crashed")
        interpreter = self.interpreter(case.way.framework)
        assert isinstance(interpreter, Interpreter)
        command = command_of(interpreter.python, self.catalog, request, launch_id, self.folders)
        with self._reaped(self._live(request, launch_id, command)) as live:
            return _run(live, command.log)

    def key(self, case: Case) -> str:
        """The identity of a case's proof on this machine."""
        names = (case.way.framework, *self._exporters(case))
        found = [self.interpreter(name) for name in names]
        return proof_key(
            case,
            f"{self.code_hash(case.work.workload, case.way.framework)} {proving_hash()}",
            interpreters=[one for one in found if isinstance(one, Interpreter)],
            machine_key=machine.fingerprint_key(machine.fingerprint()),
            num_threads=self.machine_config.num_threads or machine.effective_cores(),
        )

    def _exporters(self, case: Case) -> dict[str, str]:
        """The modules that export the case's model, by their frameworks."""
        implementation = self.catalog.implementations[case.work.workload, case.way.framework]
        return implementation.exporters(case.way.precision)

    def code_hash(self, workload: str, framework: str) -> str:
        """The hash of an implementation's code."""
        return implementation_hash(Sources(self.catalog.roots), self.catalog, (workload, framework))

    def _request(
        self, case: Case, launch_id: str, *, oracle: Path | None, keep: Path | None, follows: bool
    ) -> ProofRequest:
        framework = self.catalog.frameworks[case.way.framework]
        program = replace(case, work=replace(case.work, seed=0))  # the same for every seed
        return ProofRequest(
            case=case,
            settings=settings_of(
                case,
                self.machine_config,
                cache=self.folders.cache / "proven" / self.key(program),
                scratch=self.folders.cache / "scratch" / launch_id,
            ),
            protocol=self.protocol,
            framework_module=framework.module,
            spec_module=self.catalog.workloads[case.work.workload].spec_module,
            implementation_module=self.catalog.implementations[
                case.work.workload, case.way.framework
            ].module,
            data_folder=str(data_folder(self.catalog, case.work, self.folders)),
            follows=follows,
            oracle_folder=None if oracle is None else str(oracle),
            keep_folder=None if keep is None else str(keep),
            exporters={
                name: Exporter(module, found.python)
                for name, module in self._exporters(case).items()
                if isinstance(found := self.interpreter(name), Interpreter)
            },
        )

    def _live(self, request: ProofRequest, launch_id: str, command: Command) -> SupervisedLaunch:
        live = SupervisedLaunch(
            launch=request,
            launch_id=launch_id,
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            worker=Worker(command, self.guard),
            tick=lambda: self._tick(live),
            on_phase=lambda phase: self.on_phase(request.case.case_id, phase),
        )
        return live

    def _tick(self, live: SupervisedLaunch) -> None:
        resident = live.worker.resident_bytes()
        if resident > self.memory_limit_bytes:
            limit = in_gib(self.memory_limit_bytes)
            raise live.fail("oom_host", f"the proof took {in_gib(resident)}, the limit is {limit}")
        if self.stopping.signalled:
            raise live.interrupt("stopped")

    @contextlib.contextmanager
    def _reaped(self, live: SupervisedLaunch) -> Iterator[SupervisedLaunch]:
        """In any case, end the process and remove its private folder on leaving."""
        try:
            yield live
        finally:
            with self.stopping.held():
                if live.is_alive:
                    live.interrupt("stopped")
                shutil.rmtree(live.launch.settings.scratch_folder, ignore_errors=True)


def prover_of(
    plan: Plan,
    catalog: Catalog,
    *,
    folders: Folders,
    guard: Guard,
    stopping: Stopping,
    on_phase: Callable[[str, str], None],
) -> Prover:
    """The prover of a plan's cases on this machine."""
    config = plan.machine_config
    return Prover(
        catalog=catalog,
        machine_config=config,
        protocol=plan.protocol,
        folders=folders,
        guard=guard,
        stopping=stopping,
        memory_limit_bytes=config.memory_limit_bytes(machine.total_memory_bytes()),
        on_phase=on_phase,
    )


def _run(live: SupervisedLaunch, log: Path) -> Proof:
    try:
        proved = live.prove()
    except LaunchEndedError as error:
        failure = live.failure
        assert failure is not None
        if failure.status == "interrupted":
            raise ProofStoppedError from error
        reason = f"{failure.status} in phase {failure.phase}: {failure.reason}"
        return Proof(
            ParityVerdict(FAIL, reason=reason), live.evidence, status=failure.status, log=log
        )
    assert proved.evidence.parity is not None
    return Proof(proved.evidence.parity, proved.evidence, proved.settings, log=log)
