"""Proofs of planted faults: all of one workload, framework and precision in one process.

A verdict is the one that `dyno parity` prints, without a plan and a process for each fault. What
the tests know of how a worker is started and asked stands here and in one_process.py alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from benchmarks.contract.case import Case
from benchmarks.contract.message import Failed, Phase, ProofRequest, Proved
from benchmarks.contract.program import Exporter
from benchmarks.planning.catalog import Catalog, discover
from benchmarks.planning.planner import PlanRequest, make_plan
from benchmarks.running.guard import Guard
from benchmarks.running.preparation import (
    Folders,
    command_of,
    data_folder,
    prepare_data,
    settings_of,
)
from benchmarks.running.process import Worker
from benchmarks.storage.store import Store
from tests.parity import parity_cli, planting

TIMEOUT_S = 250.0
_numbers = itertools.count()


class Group(NamedTuple):
    """What the faults of one process have in common."""

    workload: str
    framework: str
    precision: str


class FaultProcess:
    """A worker that proves one fault after another; to be closed."""

    def __init__(self, group: Group, *, folder: Path, cache: Path) -> None:
        self._group = group
        self._folder = folder
        self._folders = Folders(cache=cache, logs=folder / "logs")
        self._extension = folder / f"planted{next(_numbers)}"
        self._plan = make_plan(
            PlanRequest(
                parity_cli.overrides_of(
                    *(f"framework={group.framework}", f"precision={group.precision}"),
                    f"execution={planting.EXECUTIONS[group.framework]}",
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

    def _catalog(self, fault: str | None) -> tuple[Catalog, str]:
        """The catalog with the fault in it, and the name of the framework that has it."""
        workload, framework, _ = self._group
        faults = [] if fault is None else [fault]
        names = planting.write_extension(
            self._extension, faults, workload=workload, frameworks=[framework]
        )
        return discover([self._extension, parity_cli.PLAIN_CODE]), (names or [framework])[0]

    def _case(self, framework: str, phase: str | None) -> Case:
        [case] = [cell.case for cell in self._plan.cells if cell.case.axes().get("phase") == phase]
        return dataclasses.replace(case, way=dataclasses.replace(case.way, framework=framework))

    def _request(self, catalog: Catalog, case: Case, oracle: Path) -> ProofRequest:
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
            oracle_folder=str(oracle),
            exporters={
                name: Exporter(module, self._plan.interpreters[name].python)
                for name, module in implementation.exporters(case.way.precision).items()
            },
        )

    def _started(self, catalog: Catalog, request: ProofRequest) -> Worker:
        python = self._plan.interpreters[self._group.framework].python
        mark = f"faults-{os.getpid()}-{next(_numbers)}"
        command = command_of(python, catalog, request, mark, self._folders)
        arguments = (python, "-u", "-m", "tests.parity.one_process")
        return Worker(dataclasses.replace(command, arguments=arguments), self._guard)
