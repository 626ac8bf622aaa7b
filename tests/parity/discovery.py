"""The cases whose agreement is tested: every implementation that the catalog finds, on the CPU."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.planning.catalog import (
    PROJECT_ROOT,
    Catalog,
    FrameworkEntry,
    ImplementationEntry,
    WorkloadEntry,
    discover,
)

PLAIN_CODE = PROJECT_ROOT / "tests" / "overhead" / "straightforward"
PRECISIONS = ("fp32", "bf16", "fp64")
DEVICE = "cpu"


@dataclass(frozen=True)
class ParityCase:
    """One case with what it runs from."""

    case: Case
    framework: FrameworkEntry
    workload: WorkloadEntry
    implementation: ImplementationEntry

    @property
    def is_slow(self) -> bool:
        """The plain code, and C++ compilation, which takes a minute and more, but for one case."""
        way = self.case.way
        needs_compiler = (way.execution, DEVICE) in self.framework.capabilities.needs_compiler
        is_plain = PLAIN_CODE in self.framework.folder.parents
        return is_plain or (needs_compiler and way.precision != "fp32")

    def reason_to_skip(self) -> str | None:
        """Why the case cannot run on this machine, or None."""
        way, own = self.case.way, self.framework.capabilities
        for gap in own.unsupported:
            if gap.covers(device=DEVICE, execution=way.execution, precision=way.precision):
                return f"{gap.reason} ({gap.link})"
        if importlib.util.find_spec(own.import_name) is None:
            return f"{own.import_name} is not installed"
        if (way.execution, DEVICE) in own.needs_compiler and shutil.which("c++") is None:
            return "no C++ compiler"
        return None


def catalog() -> Catalog:
    """Dyno's own frameworks and workloads, with the plain code."""
    return discover([PLAIN_CODE])


def parity_cases() -> Iterator[ParityCase]:
    """Every implementation x execution x precision."""
    found = catalog()
    for implementation in found.implementations.values():
        framework = found.frameworks.get(implementation.framework)
        workload = found.workloads[implementation.workload]
        if framework is None or _reference_file(workload) is None:
            continue
        for way in _ways(framework, workload.spec):
            case = Case(_work(workload.spec), way, Place(DEVICE))
            yield ParityCase(case, framework, workload, implementation)


def uncovered() -> list[Path]:
    """Implementations that no case covers: of no framework, or of a workload without reference."""
    found = catalog()
    return [
        one.file
        for one in found.implementations.values()
        if one.framework not in found.frameworks
        or _reference_file(found.workloads[one.workload]) is None
    ]


def reference_module(workload: WorkloadEntry) -> str:
    """The module with the reference of a workload's model."""
    return f"tests.parity.{workload.folder.name}_reference"


def _reference_file(workload: WorkloadEntry) -> Path | None:
    file = Path(__file__).with_name(f"{workload.folder.name}_reference.py")
    return file if file.exists() else None


def _ways(framework: FrameworkEntry, spec: WorkloadSpec) -> Iterator[Way]:
    offered = framework.capabilities.precisions.get(DEVICE, ())
    for execution in framework.capabilities.executions:
        for precision in PRECISIONS:
            if precision in offered and precision in spec.precisions:
                yield Way(framework.name, execution, precision)


def _work(spec: WorkloadSpec) -> Work:
    options = tuple((name, values[0]) for name, values in spec.options.items())
    return Work(spec.name, spec.version, "tiny", 8, options)
