"""Where a work's canonical arrays lie, and what of a case is made ahead."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.plan import MachineConfig
from benchmarks.host.lock import shared_folder
from benchmarks.planning.catalog import PROJECT_ROOT
from benchmarks.running import preparation
from benchmarks.running.preparation import Folders, data_folder, is_prepared, lock_folder
from benchmarks.worker import exports
from tests.unit.planning.worlds import World

WORK = Work("toy", 1, "tiny", 2, ())


def test_arrays_are_named_by_all_source_that_they_depend_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    folders = Folders(tmp_path / "cache", tmp_path / "logs")
    before = data_folder(world.catalog(), WORK, folders)
    assert data_folder(world.catalog(), WORK, folders) == before
    catalog = world.catalog()
    world.write("lab/workloads/toy/spec.py", "from lab.workloads import other\n")
    world.write("lab/workloads/other.py", "SPREAD = 1\n")
    imported = data_folder(catalog, WORK, folders)
    world.write("lab/workloads/other.py", "SPREAD = 2\n")
    changed = data_folder(catalog, WORK, folders)
    world.write("lab/workloads/toy/alpha_impl.py", "IMPLEMENTS = {'toy'}\n")
    assert len({before, imported, changed}) == 3
    assert data_folder(catalog, WORK, folders) == changed


def test_runs_share_the_machines_lock_unless_told_otherwise() -> None:
    assert lock_folder(MachineConfig()) == shared_folder()
    assert lock_folder(MachineConfig(cache_folder="/elsewhere")) == shared_folder()
    assert lock_folder(MachineConfig(lock_folder="locks")) == PROJECT_ROOT / "locks"
    assert lock_folder(MachineConfig(lock_folder="/locks")) == Path("/locks")


@pytest.mark.parametrize(
    ("execution", "is_exported", "kept", "expected"),
    [
        *(("eager", False, "", True), ("graph", False, "", True)),
        *(("compiled", False, "", False), ("compiled", False, "compiled", True)),
        *(("graph", True, "", False), ("graph", True, "exports", True)),
        *(("graph", True, "exports damaged", False), ("compiled", True, "exports", False)),
        ("compiled", True, "exports compiled", True),
    ],
)
def test_a_case_is_prepared_once_its_model_is_exported_and_its_program_compiled(
    execution: str,
    is_exported: bool,
    kept: str,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = Folders(tmp_path, tmp_path / "logs")
    if "compiled" in kept:
        (tmp_path / "compiled" / "key" / "xla").mkdir(parents=True)
        (tmp_path / "compiled" / "key" / "xla" / "program").touch()
    if "exports" in kept:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "model").write_text("model")
        exports.keep(tmp_path / "made", tmp_path / "exported")
    if "damaged" in kept:
        (tmp_path / "exported" / "model").write_text("mode")
    monkeypatch.setattr(preparation, "_export_folder", lambda *of: tmp_path / "exported")
    entry = SimpleNamespace(exporters=lambda precision: {"beta": "a.module"} if is_exported else {})
    catalog: Any = SimpleNamespace(implementations={("toy", "alpha"): entry})
    plan: Any = SimpleNamespace(cell=lambda case_id: SimpleNamespace(result_key="key"))
    case = Case(WORK, Way("alpha", execution, "fp32", ()), Place("cpu"))
    assert is_prepared(plan, catalog, case, folders) is expected
