"""A small world to plan in: frameworks, a workload, a machine and a store that exist in memory."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.contract.device import DEVICE_KINDS
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.plan import CohortPlan, Interpreter, LaunchPlan, Plan
from benchmarks.contract.protocol import PROTOCOL_VERSION
from benchmarks.contract.record import Record
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.host.machine import fingerprint_key
from benchmarks.planning.catalog import Catalog, FrameworkEntry, WorkloadEntry
from benchmarks.planning.implementations import ImplementationEntry, Root
from benchmarks.planning.planner import PlanRequest, make_plan
from benchmarks.planning.surroundings import Surroundings

GIB = 2**30
MACHINE = {"cpu": "a processor", "num_cores": 2, "memory_bytes": 16 * GIB, "accelerators": []}
AXES = (
    "workload=toy",
    "size=tiny",
    "batch_size=2",
    "execution=eager",
    "precision=fp32",
    "device=cpu",
)


def capabilities(name: str, **changes: object) -> Capabilities:
    fields: dict[str, object] = {
        "name": name,
        "import_name": name,
        "distributions": (name,),
        "executions": ("eager", "compiled"),
        "precisions": {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16")},
        "asynchronous_devices": ("cuda",),
        "out_of_memory_patterns": (),
    }
    return Capabilities(**{**fields, **changes})


def spec(name: str = "toy", **changes: object) -> WorkloadSpec:
    fields: dict[str, object] = {
        "name": name,
        "version": 1,
        "unit": "image",
        "sizes": {"tiny": {"width": 4}, "full": {"width": 400}},
        "default_batch_size": {"tiny": 2, "full": 32},
        "precisions": ("fp32", "tf32", "bf16"),
        "hyperparameters": {},
        "weights": lambda work: iter(()),
        "batch": lambda work, index: {},
        "items_per_step": lambda work: work.batch_size,
        "flop_per_step": lambda work: 10**9 * work.batch_size,
        "memory_bytes": lambda case, capabilities: GIB,
        "gradients": lambda initial, read: iter(()),
        "tolerances": {"fp32": {"loss": 1e-4, "gradient_norm": 1e-2}},
    }
    return WorkloadSpec(**{**fields, **changes})


class World:
    """One catalog on disk below a folder; everything else in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frameworks: dict[str, Capabilities] = {}
        self.specs: dict[str, WorkloadSpec] = {"toy": spec()}
        self.implemented: set[tuple[str, str]] = set()
        self.per_replica: set[str] = set()
        self.differs: dict[str, str] = {}
        self.rewrites: dict[str, str] = {}
        self.rewrites_on: dict[str, frozenset[str]] = {}
        self.exported_from: dict[str, dict[str, str]] = {}
        self.quantised_by: dict[str, dict[str, str]] = {}
        self.interpreters: dict[str, Interpreter | str] = {}
        self.machine = dict(MACHINE)
        self.has_compiler = True
        self.store = FakeStore()
        for name in ("alpha", "beta", "gamma"):
            self.add(name)

    def add(self, name: str, *, devices: tuple[str, ...] = ("cpu",), **changes: object) -> None:
        """Another framework that implements the toy and is installed."""
        self.frameworks[name] = capabilities(name, **changes)
        self.implemented.add(("toy", name))
        self.interpreters[name] = Interpreter("/python", {name: "1.0"}, dict.fromkeys(devices, 1))
        self.write(f"lab/frameworks/{name}/__init__.py")
        self.write(f"lab/frameworks/{name}/adapter.py")
        self.write(f"lab/workloads/toy/{name}_impl.py")

    @staticmethod
    def installed(distribution: str, version: str) -> Interpreter:
        """An interpreter with this distribution and a processor."""
        return Interpreter("/python", {distribution: version}, {"cpu": 1})

    def write(self, path: str, text: str = "") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def catalog(self) -> Catalog:
        self.write("lab/workloads/toy/spec.py")
        lab = self.folder / "lab"
        model = lab / "workloads" / "toy"
        return Catalog(
            frameworks={
                name: FrameworkEntry(
                    name, f"lab.frameworks.{name}", lab / "frameworks" / name, known, lambda s: {}
                )
                for name, known in self.frameworks.items()
            },
            workloads={
                name: WorkloadEntry(name, known, "lab.workloads.toy.spec", model)
                for name, known in self.specs.items()
            },
            implementations={
                (workload, name): ImplementationEntry(
                    *(workload, name),
                    *(f"lab.workloads.toy.{name}_impl", model / f"{name}_impl.py"),
                    exported_from=self.exported_from.get(name, {}),
                    quantised_by=self.quantised_by.get(name, {}),
                    is_per_replica=name in self.per_replica,
                    differs=self.differs.get(name),
                    rewrites=self.rewrites.get(name),
                    rewrites_on=self.rewrites_on.get(name, frozenset(DEVICE_KINDS)),
                )
                for workload, name in sorted(self.implemented)
            },
            roots=(Root(lab, "lab"),),
        )

    def surroundings(self) -> Surroundings:
        return Surroundings(
            interpreters=lambda catalog, config, names: {n: self.interpreters[n] for n in names},
            machine=self.machine,
            machine_key=fingerprint_key(self.machine),
            num_cores=2,
            memory_bytes=16 * GIB,
            has_compiler=self.has_compiler,
            now=datetime(2026, 11, 21, 8, 0, self.store.num_plans, tzinfo=UTC),
            token="0a1b2c",
        )

    def plan(self, *overrides: str, fresh: bool = False, adds_idiomatic: bool = True) -> Plan:
        """The plan of the toy with these overrides, which win over AXES."""
        keys = {text.partition("=")[0] for text in overrides}
        axes = [text for text in AXES if text.partition("=")[0] not in keys]
        return make_plan(
            PlanRequest((*axes, *overrides), fresh=fresh, adds_idiomatic=adds_idiomatic),
            catalog=self.catalog(),
            store=self.store,
            surroundings=self.surroundings(),
        )


class FakeStore:
    """A store in memory."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self.stored: list[Record] = []
        self.num_reads = 0
        self.num_plans = 0

    def runs(self) -> list[str]:
        return sorted(self.plans)

    def read_plan(self, run_id: str) -> Plan:
        return self.plans[run_id]

    def records(self) -> list[Record]:
        self.num_reads += 1
        return list(self.stored)

    def run(
        self, plan: Plan, num_cohorts: int | None = None, *, failing: tuple[str, ...] = ()
    ) -> None:
        """Store a plan, and records of its first cohorts; these frameworks crash in each."""
        self.num_plans += 1
        self.plans[plan.run_id] = plan
        for cohort in plan.cohorts[:num_cohorts]:
            for launch in cohort.launches:
                framework = case_of(plan, launch).way.framework
                status = "crashed" if framework in failing else "ok"
                self.stored.append(self.record(plan, cohort, launch, status))

    def record(self, plan: Plan, cohort: CohortPlan, launch: LaunchPlan, status: str) -> Record:
        number = len(self.stored)
        cell = plan.cell(launch.case_id)
        return Record(
            run_id=plan.run_id,
            cohort_id=cohort.cohort_id,
            launch_id=f"launch{number}",
            case=cell.case,
            replica=launch.replica,
            result_key=str(cell.result_key),
            protocol_name=plan.protocol.name,
            protocol_version=PROTOCOL_VERSION,
            status=status,
            reason=None,
            phase=None,
            started_at=f"2026-11-21T08:{number // 60:02}:{number % 60:02}Z",
            unit="image",
            items_per_step=1,
            flop_per_step=1,
            phases_s={"import": 1.0, "turn": 4.0},
            warmup_ns=((1, 1_000_000),),
            environment={"machine": plan.machine},
            resident=cohort.resident,
        )

    def mark(self, index: int, status: str) -> None:
        """Give a stored record another status."""
        self.stored[index] = dataclasses.replace(self.stored[index], status=status)


def case_of(plan: Plan, launch: LaunchPlan):
    """The case that a launch is of."""
    return plan.cell(launch.case_id).case


def launched(plan: Plan) -> list[str]:
    """For each cohort its frameworks, a replica marked by a dash."""
    return [
        " ".join(case_of(plan, one).way.framework + "'" * one.replica for one in cohort.launches)
        for cohort in plan.cohorts
    ]


def actions(plan: Plan) -> dict[str, str]:
    """The action of each framework's cell, or the kind of its skip."""
    return {
        cell.case.way.framework: str(cell.kind) if cell.action == "skip" else cell.action
        for cell in plan.cells
    }
