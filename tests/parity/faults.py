"""Planted faults as the tests name them, and their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.parity import parity_cli, planting
from tests.parity.fault_process import FaultProcess, Group
from tests.parity.proofs import Proofs

VERDICT = ("status", "reason", "causes")


class Fault(NamedTuple):
    """A mistake in the real program of a framework."""

    workload: str
    framework: str
    precision: str
    name: str
    phase: str | None = None

    @property
    def id(self) -> str:
        """The name of the fault's tests, and its line in planted_faults.txt."""
        work = self.workload if self.phase is None else f"{self.workload}/{self.phase}"
        return "-".join((work, self.framework, self.precision, self.name))


def parameters(
    faults: Iterable[Fault], *, slow: Callable[[Fault], bool] = lambda _: False
) -> list[Any]:
    """The faults as parameters of tests; of JAX's programs all are slow."""
    return [
        pytest.param(
            fault,
            id=fault.id,
            marks=[pytest.mark.slow] if fault.framework == "jax" or slow(fault) else [],
        )
        for fault in faults
    ]


class Verdicts:
    """Proves faults, those of one group that come one after another in one process."""

    def __init__(self, proofs: Proofs, folder: Path) -> None:
        self._proofs, self._folder = proofs, folder
        self._group: Group | None = None
        self._process: FaultProcess
        self._open = ExitStack()

    def of(self, fault: Fault) -> dict[str, Any]:
        """What `dyno parity` says of the program with the fault: status, causes, reason."""
        return self._verdict(fault, fault.name)

    def without(self, fault: Fault) -> dict[str, Any]:
        """The same of the framework's own program, in the process that just had the fault."""
        return self._verdict(fault, None)

    def of_the_command(self, fault: Fault) -> dict[str, Any]:
        """The same verdict from `dyno parity` itself."""
        extension = self._folder / "planted"
        [name] = planting.write_extension(
            extension, [fault.name], workload=fault.workload, frameworks=[fault.framework]
        )
        [cell] = parity_cli.cells_of(
            *("--extend", str(extension), "--extend", str(parity_cli.PLAIN_CODE)),
            *(f"framework={name}", f"execution={planting.EXECUTIONS[fault.framework]}"),
            f"precision={fault.precision}",
            *([] if fault.phase is None else [f"phase={fault.phase}"]),
            cache=self._proofs.cache,
            workload=fault.workload,
        )
        return {key: cell[key] for key in VERDICT}

    def close(self) -> None:
        """End the process."""
        self._open.close()
        self._group = None

    def _verdict(self, fault: Fault, name: str | None) -> dict[str, Any]:
        group = Group(fault.workload, fault.framework, fault.precision)
        oracle = self._proofs.oracle(fault.workload, fault.phase)
        if group != self._group:
            self.close()
            process = FaultProcess(group, folder=self._folder, cache=self._proofs.cache)
            self._process = self._open.enter_context(process)
            self._group = group
        verdict = self._process.verdict(name, phase=fault.phase, oracle=oracle)
        return {key: verdict[key] for key in VERDICT}
