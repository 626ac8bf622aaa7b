"""Proofs and launches of planted faults: those of one workload and framework in one process.

A verdict is the one that `dyno parity` prints, and an outcome that of a launch of `dyno run`,
without a plan and a process for each fault. What the tests know of how a worker is started and
asked stands here and in one_process.py alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, cast
from unittest.mock import Mock

from benchmarks.contract.case import Case
from benchmarks.contract.device import DeviceRules
from benchmarks.contract.evidence import Proven
from benchmarks.contract.message import Failed, LaunchRequest, Phase, ProofRequest, Proved
from benchmarks.contract.program import Exporter
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.planning.catalog import Catalog, discover
from benchmarks.planning.planner import PlanRequest, make_plan
from benchmarks.running.guard import Guard
from benchmarks.running.launch import LaunchEndedError, SupervisedLaunch
from benchmarks.running.listeners import Listener
from benchmarks.running.preparation import (
    Folders,
    command_of,
    data_folder,
    prepare_data,
    settings_of,
)
from benchmarks.running.process import Worker
from benchmarks.running.recording import contradiction
from benchmarks.running.rounds import Rounds, take_rounds
from benchmarks.running.stopping import Stopping
from benchmarks.storage.store import Store
from tests.parity import parity_cli, planting

TIMEOUT_S = 250.0
_numbers = itertools.count()


class Group(NamedTuple):
    """What the faults of one process have in common."""

    workload: str
    framework: str
    precision: str


class Outcome(NamedTuple):
    """How a launch ended."""

    status: str
    reason: str | None
    proven: Proven | None = None
    """What later launches of the same program may be held to."""


PROTOCOL = MeasuringProtocol(
    name="later",
    num_cohorts=1,
    min_rounds=3,
    max_rounds=3,
    block_target_s=0.05,
    max_launch_s=1.0,
    requests_per_turn=24,
    percentiles=[],
    min_warmup_steps=16,
    min_warmup_s=0.0,
    max_warmup_s=0.1,
    warmup_window=2,
)
"""The shortest in which faults that begin after 15 steps, or in the fifth sequence, have begun."""


class _Kept:
    """A worker that goes on after its launch, to take the next one."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def end(self, *, grace_s: float) -> None:
        del grace_s


class FaultProcess:
    """A worker that proves one fault after another; to be closed."""

    def __init__(
        self,
        group: Group,
        *,
        folder: Path,
        cache: Path,
        module: str = planting.__name__,
        execution: str | None = None,
    ) -> None:
        execution = execution or planting.EXECUTIONS[group.framework]
        self._group = group
        self._module = module
        self._folder = folder
        self._folders = Folders(cache=cache, logs=folder / "logs")
        self._extension = folder / f"planted{next(_numbers)}"
        self._plan = make_plan(
            PlanRequest(
                parity_cli.overrides_of(
                    *(f"framework={group.framework}", f"precision={group.precision}"),
                    f"execution={execution}",
                    cache=cache,
                    workload=group.workload,
                )
            ),
            catalog=discover(),
            store=Store(folder / "runs"),
        )
        self._guard = Guard()
        self._worker: Worker | None = None

    def __enter__(self) -> FaultProcess:
        self._guard.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._worker is not None:
            self._worker.end(grace_s=0.0)
        self._guard.__exit__(kind, error, trace)

    def verdict(self, fault: str | None, *, phase: str | None, oracle: Path) -> dict[str, Any]:
        """The verdict on the program with this fault, or on the one without any."""
        catalog, framework = self._catalog(fault)
        request = self._request(catalog, self._case(framework, phase), oracle)
        if self._worker is None:
            self._worker = self._started(catalog, request)
        self._worker.send(request)
        while True:
            message = self._worker.receive(timeout_s=TIMEOUT_S, tick=lambda: None)
            if isinstance(message, Proved):
                assert message.evidence.parity is not None
                document: dict[str, Any] = json.loads(json.dumps(message.evidence.parity.to_json()))
                return document
            if isinstance(message, Failed):
                reason = f"{message.status} in phase {message.phase}: {message.reason}"
                return {"status": "fail", "reason": reason, "causes": []}
            assert isinstance(message, Phase)

    def outcome(
        self,
        fault: str | None,
        *,
        phase: str | None,
        draw: int,
        seed: int = 0,
        proven: Proven | None = None,
    ) -> Outcome:
        """How a launch of the program with this fault ends, or of the one without any.

        There is no oracle, so that step 1 is not compared: what is found later shows. A launch that
        is held to what another one has `proven` is one of a run's later ones.
        """
        catalog, framework = self._catalog(fault)
        case = self._case(framework, phase)
        case = dataclasses.replace(case, work=dataclasses.replace(case.work, seed=seed))
        proof = self._request(catalog, case, None)
        names = {one.name for one in dataclasses.fields(LaunchRequest)}
        same = {one.name: getattr(proof, one.name) for one in dataclasses.fields(ProofRequest)}
        request = LaunchRequest(
            **{name: value for name, value in same.items() if name in names and name != "protocol"},
            protocol=PROTOCOL,
            rules=DeviceRules(),
            draw=draw,
            proven=proven,
            may_be_cold=True,
        )
        if self._worker is None:
            self._worker = self._started(catalog, request)
        live = SupervisedLaunch(
            launch=request,
            launch_id=f"{framework}-{next(_numbers)}",
            started_at="",
            worker=cast("Worker", _Kept(self._worker)),
            tick=lambda: None,
            on_phase=lambda phase: None,
        )
        with suppress(LaunchEndedError):
            live.start()
            live.await_import()
            live.prepare()
            rounds = Rounds(PROTOCOL, DeviceRules(), seed=0)
            take_rounds([live], rounds, stopping=Stopping(), progress=Mock(Listener))
            if live.is_alive:
                live.finish()
        failure = live.failure or contradiction(catalog, live)
        if live.failure is not None and live.finished is None and live.phase == "turn":
            self._worker.end(grace_s=0.0)  # the parent has ended it: it waits for turns
            self._worker = None
        step1, parity = live.evidence.step1, live.evidence.parity
        own = Proven(live.launch_id, step1, parity) if step1 and parity else None
        return Outcome(*(failure.status, failure.reason) if failure else ("ok", None), own)

    def _catalog(self, fault: str | None) -> tuple[Catalog, str]:
        """The catalog with the fault in it, and the name of the framework that has it."""
        workload, framework, _ = self._group
        faults = [] if fault is None else [fault]
        names = planting.write_extension(
            self._extension,
            faults,
            workload=workload,
            frameworks=[framework],
            module=self._module,
        )
        extensions = [self._extension] if names else []
        return discover([*extensions, parity_cli.PLAIN_CODE]), (names or [framework])[0]

    def _case(self, framework: str, phase: str | None) -> Case:
        [case] = [cell.case for cell in self._plan.cells if cell.case.axes().get("phase") == phase]
        return dataclasses.replace(case, way=dataclasses.replace(case.way, framework=framework))

    def _request(self, catalog: Catalog, case: Case, oracle: Path | None) -> ProofRequest:
        framework = catalog.frameworks[case.way.framework]
        workload = case.work.workload
        implementation = catalog.implementations[workload, framework.name]
        timeout_s = self._plan.protocol.timeout_s("load")
        prepare_data(catalog, case.work, self._folders, timeout_s=timeout_s)
        return ProofRequest(
            case=case,
            settings=settings_of(
                case,
                self._plan.machine_config,
                cache=self._folder / "compiled",
                scratch=self._folder / "scratch",
            ),
            protocol=self._plan.protocol,
            framework_module=framework.module,
            spec_module=catalog.workloads[workload].spec_module,
            implementation_module=implementation.module,
            data_folder=str(data_folder(catalog, case.work, self._folders)),
            follows=True,
            oracle_folder=None if oracle is None else str(oracle),
            exporters={
                name: Exporter(module, self._plan.interpreters[name].python)
                for name, module in implementation.exporters(case.way.precision).items()
            },
        )

    def _started(self, catalog: Catalog, request: ProofRequest | LaunchRequest) -> Worker:
        python = self._plan.interpreters[self._group.framework].python
        mark = f"faults-{os.getpid()}-{next(_numbers)}"
        command = command_of(python, catalog, request, mark, self._folders)
        arguments = (python, "-u", "-m", "tests.parity.one_process")
        return Worker(dataclasses.replace(command, arguments=arguments), self._guard)
