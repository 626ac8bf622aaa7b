"""Where a work's canonical arrays lie."""

from pathlib import Path

from benchmarks.contract.case import Work
from benchmarks.contract.plan import MachineConfig
from benchmarks.host.lock import shared_folder
from benchmarks.planning.catalog import PROJECT_ROOT
from benchmarks.running.preparation import Folders, data_folder, lock_folder
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
