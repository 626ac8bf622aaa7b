"""Prepares a case of the plan for its process: message, command and canonical arrays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.contract.case import Case, Work, work_to_json
from benchmarks.contract.device import is_host
from benchmarks.contract.evidence import Proven, Tested
from benchmarks.contract.framework import Settings
from benchmarks.contract.message import LaunchRequest, ProofRequest
from benchmarks.contract.plan import MachineConfig, Plan
from benchmarks.contract.program import Exporter
from benchmarks.host import machine
from benchmarks.host.environment import allowed_environment
from benchmarks.host.lock import shared_folder
from benchmarks.planning.catalog import PROJECT_ROOT, Catalog
from benchmarks.planning.identity import proof_key
from benchmarks.planning.sources import Sources, implementation_hash
from benchmarks.running.process import Command
from benchmarks.storage.store import Store
from benchmarks.worker import exports

COMPILED = "compiled"
"""The execution whose programs a compile cache keeps between launches."""
ACCELERATOR_SHARE = 0.9
"""Share of a device's memory that launches which are alive together divide among themselves."""


@dataclass(frozen=True)
class Folders:
    """The folders of a run besides its records."""

    cache: Path
    """Canonical arrays and compile caches, which are kept between runs."""
    logs: Path
    """The launches' output, beside the records."""


def folders_of(plan: Plan, store: Store) -> Folders:
    """The folders of a run that is stored."""
    cache = PROJECT_ROOT / plan.machine_config.cache_folder
    return Folders(cache=cache, logs=store.log_folder(plan.run_id))


def lock_folder(config: MachineConfig) -> Path:
    """The folder of the lock that a run takes: the configuration's, else the machine's."""
    return PROJECT_ROOT / config.lock_folder if config.lock_folder else shared_folder()


class DataError(Exception):
    """The canonical arrays of a Work could not be made; the message says why."""


def data_folder(catalog: Catalog, work: Work, folders: Folders) -> Path:
    """The folder of this Work's canonical arrays, which `prepare_data` fills.

    It is named by a hash of all source that they depend on: a workload may import another's.
    """
    entry = catalog.workloads[work.workload]
    source = Sources(catalog.roots).hash_of([entry.spec_module])
    identity = json.dumps([work_to_json(work), entry.spec.task.num_batches, source])
    return folders.cache / "data" / hashlib.sha256(identity.encode()).hexdigest()[:24]


def prepare_data(catalog: Catalog, work: Work, folders: Folders, *, timeout_s: float) -> None:
    """Write this Work's canonical arrays unless they exist already; DataError if that fails."""
    folder = data_folder(catalog, work, folders)
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "benchmarks.worker.canonical"),
        *(catalog.workloads[work.workload].spec_module, json.dumps(asdict(work))),
        *(str(folder), str(os.getpid())),
    ]
    try:
        result = subprocess.run(
            command,
            env=allowed_environment(
                _python_path(catalog), private_folder=folders.cache / "scratch" / "data"
            ),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach this process only
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"the canonical arrays were not made within {timeout_s:g} s") from error
    if result.returncode:
        last = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise DataError(f"the canonical arrays could not be made: {last}")


def launch_of(
    plan: Plan,
    catalog: Catalog,
    case: Case,
    *,
    launch_id: str,
    folders: Folders,
    num_resident: int,
    oracle: Path | None,
    tested: Tested | None = None,
    proven: Proven | None = None,
    may_be_cold: bool = False,
    only_prepares: bool = False,
) -> LaunchRequest:
    """The message that tells a worker what to run; creates the launch's private folders."""
    framework = catalog.frameworks[case.way.framework]
    implementation = catalog.implementations[case.work.workload, case.way.framework]
    alone = is_host(case.place.device) or num_resident == 1
    return LaunchRequest(
        case=case,
        settings=settings_of(
            case,
            plan.machine_config,
            cache=_compiled_folder(plan, case, folders),
            scratch=folders.cache / "scratch" / launch_id,
            memory_fraction=1.0 if alone else ACCELERATOR_SHARE / num_resident,
        ),
        protocol=plan.protocol,
        rules=plan.device_rules[case.place.device],
        framework_module=framework.module,
        spec_module=catalog.workloads[case.work.workload].spec_module,
        implementation_module=implementation.module,
        data_folder=str(data_folder(catalog, case.work, folders)),
        oracle_folder=None if oracle is None else str(oracle),
        tested=tested,
        proven=proven,
        may_be_cold=may_be_cold,
        only_prepares=only_prepares,
        differs=implementation.differs is not None,
        export_folder=str(_export_folder(plan, catalog, case, folders)),
        draw=zlib.crc32(launch_id.encode()),
        exporters={
            name: Exporter(module, plan.interpreters[name].python)
            for name, module in implementation.exporters(case.way.precision).items()
        },
    )


def is_prepared(plan: Plan, catalog: Catalog, case: Case, folders: Folders) -> bool:
    """Whether this case's model is exported, and its program compiled as far as a folder shows."""
    implementation = catalog.implementations[case.work.workload, case.way.framework]
    if implementation.exporters(case.way.precision) and not exports.is_whole(
        _export_folder(plan, catalog, case, folders)
    ):
        return False
    compiled = _compiled_folder(plan, case, folders)
    return case.way.execution != COMPILED or any(file.is_file() for file in compiled.rglob("*"))


def _compiled_folder(plan: Plan, case: Case, folders: Folders) -> Path:
    """The folder of the case's compile caches."""
    return folders.cache / "compiled" / str(plan.cell(case.case_id).result_key)


def _export_folder(plan: Plan, catalog: Catalog, case: Case, folders: Folders) -> Path:
    """The folder of the case's exported files, named by their identity."""
    key = (case.work.workload, case.way.framework)
    exporters = catalog.implementations[key].exporters(case.way.precision)
    name = proof_key(
        case,
        implementation_hash(Sources(catalog.roots), catalog, key),
        interpreters=[plan.interpreters[name] for name in (case.way.framework, *exporters)],
        machine_key=machine.fingerprint_key(plan.machine),
        num_threads=plan.machine_config.num_threads or machine.effective_cores(),
    )
    return folders.cache / "exports" / name


def settings_of(
    case: Case,
    config: MachineConfig,
    *,
    cache: Path,
    scratch: Path,
    memory_fraction: float = 1.0,
) -> Settings:
    """The settings of a case on this machine; creates its private folders."""
    for folder in (cache, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    return Settings(
        device=case.place.device,
        num_devices=case.place.num_devices,
        execution=case.way.execution,
        precision=case.way.precision,
        num_threads=config.num_threads or machine.effective_cores(),
        memory_fraction=memory_fraction,
        cache_folder=str(cache),
        scratch_folder=str(scratch),
    )


def command_of(
    python: str,
    catalog: Catalog,
    launch: LaunchRequest | ProofRequest,
    launch_id: str,
    folders: Folders,
) -> Command:
    """The command that starts this launch's worker in its framework's interpreter."""
    name = launch.case.way.framework
    extra = {
        **_python_path(catalog),
        **catalog.frameworks[name].environment(launch.settings),
    }
    scratch = Path(launch.settings.scratch_folder)
    return Command(
        mark=launch_id,
        arguments=(python, "-u", "-m", "benchmarks.worker.main"),
        environment=allowed_environment(extra, private_folder=scratch),
        folder=scratch,
        log=folders.logs / f"{launch_id}.log",
    )


def _python_path(catalog: Catalog) -> dict[str, str]:
    """PYTHONPATH with our checkout first: other wheels have shipped a top-level `benchmarks`."""
    return {"PYTHONPATH": ":".join([str(PROJECT_ROOT), *catalog.python_path])}
