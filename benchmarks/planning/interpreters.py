"""Finds the interpreter that each framework runs in, without importing any framework.

`probes` then asks the framework for its versions and devices there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import PathFinder
from pathlib import Path

from benchmarks.contract.plan import Interpreter, MachineConfig
from benchmarks.host.machine import effective_cores
from benchmarks.planning.catalog import PROJECT_ROOT, Catalog, FrameworkEntry
from benchmarks.planning.probes import Site, cached_probe

ASK_TIMEOUT_S = 20.0


def resolve(
    catalog: Catalog,
    machine_config: MachineConfig,
    names: Iterable[str],
    *,
    root: Path = PROJECT_ROOT,
    keep: bool = True,
) -> dict[str, Interpreter | str]:
    """For each framework its interpreter, or one line on why there is none and what to do.

    A framework that is installed but whose probe fails has an interpreter, with that failure.

    Args:
        catalog: the frameworks that exist.
        machine_config: interpreters that the user names, and the cache folder.
        names: the frameworks to look for; each must be in the catalog.
        root: the project's folder.
        keep: whether successful probes are written to the cache folder.
    """
    cache = root / machine_config.cache_folder / "probes"

    def resolve_one(name: str) -> Interpreter | str:
        site = _site(catalog, machine_config, name, root=root)
        if isinstance(site, str):
            return site
        found = cached_probe(site, cache, keep=keep)
        if isinstance(found, str):
            return Interpreter(site.python, versions={}, devices={}, probe_failure=found)
        return found

    wanted = list(dict.fromkeys(names))
    with ThreadPoolExecutor(max_workers=min(4, effective_cores())) as pool:
        return dict(zip(wanted, pool.map(resolve_one, wanted), strict=True))


def _site(catalog: Catalog, machine_config: MachineConfig, name: str, *, root: Path) -> Site | str:
    """Where the framework is installed, or why it is not."""
    framework = catalog.frameworks[name]
    python = _python(machine_config, name, root)
    if not (Path(python).is_file() and os.access(python, os.X_OK)):
        return f"machine.python.{name}={python}: expected the path of a Python interpreter"
    site = Site(
        module=framework.module,
        source_folder=framework.folder,
        python=python,
        packages_folders=tuple(_packages_folders(python)),
        python_path=(str(PROJECT_ROOT), *catalog.python_path),
        variables=framework.capabilities.import_variables,
    )
    if _is_installed(framework, site):
        return site
    return _how_to_install(framework, _shown(python, root))


def _python(machine_config: MachineConfig, name: str, root: Path) -> str:
    """The user's choice, else the framework's own environment, else the interpreter of Dyno."""
    if name in machine_config.python:
        return str(root / Path(machine_config.python[name]).expanduser())
    own = root / ".envs" / name / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def _packages_folders(python: str) -> list[Path]:
    if python == sys.executable:
        return [Path(entry) for entry in sys.path if entry.endswith("-packages")]
    prefix = Path(python).parent.parent  # not resolved: an environment's python is a link out of it
    if _is_closed_environment(prefix):
        return sorted(prefix.glob("lib/python3*/site-packages"))
    return _asked_folders(python)


def _is_closed_environment(prefix: Path) -> bool:
    settings = prefix / "pyvenv.cfg"
    return settings.is_file() and "system-site-packages = true" not in settings.read_text()


def _asked_folders(python: str) -> list[Path]:
    """The folders that an interpreter outside of any environment reports; none if it fails."""
    code = "import json, sys; print(json.dumps(sys.path))"
    command = [python, "-I", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_TIMEOUT_S, check=True)
        return [Path(entry) for entry in json.loads(done.stdout) if entry.endswith("-packages")]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _is_installed(framework: FrameworkEntry, site: Site) -> bool:
    """Whether the framework's module can be found there; nothing is imported."""
    name = framework.capabilities.import_name.partition(".")[0]
    if site.python == sys.executable and importlib.util.find_spec(name) is not None:
        return True
    places = [*map(str, site.packages_folders), *site.python_path]
    return PathFinder.find_spec(name, places) is not None


def _how_to_install(framework: FrameworkEntry, python: str) -> str:
    missing = f"{framework.capabilities.import_name} is not installed for {python}"
    platforms = [
        file.stem.partition("-")[2] for file in sorted(framework.folder.glob("requirements-*.txt"))
    ]
    if platforms:
        return f"{missing}; scripts/setup installs it on {', '.join(platforms)}"
    return f"{missing}; install {framework.capabilities.distributions[0]} there"


def _shown(python: str, root: Path) -> str:
    path = Path(python)
    return str(path.relative_to(root)) if path.is_relative_to(root) else python
