"""The catalog of frameworks, workloads and implementations, found in their folders.

    benchmarks/frameworks/<name>/__init__.py     CAPABILITIES and environment(settings), or FAMILY
    workloads/<model>/spec.py, *_spec.py         SPECS
    workloads/<model>/<framework>/*.py           those with IMPLEMENTS, read without importing them
    workloads/<model>/<framework>_impl.py        the same in one file, if a model needs no more
    workloads/<model>/<family>/*.py, ..._impl.py the same for every framework of a family

An extension folder DIR holds `frameworks/` and `workloads/` of the same shape, and may hold
`metrics/<name>.py` with METRICS (see `analysis.metrics`). Its modules are named after it,
`<DIR.name>.frameworks.<name>`, and DIR.parent is added to the workers' PYTHONPATH.
No framework is imported.
"""

from __future__ import annotations

import inspect
import keyword
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import benchmarks
from benchmarks.contract.case import AXES, GROUPS, IDIOMATIC, RECIPE, RECIPES
from benchmarks.contract.framework import Capabilities, Settings
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.errors import UsageError
from benchmarks.planning.implementations import (
    PROGRAMS,
    ImplementationEntry,
    Root,
    by_framework,
    find_implementations,
)
from benchmarks.planning.loading import attribute, function, load, loadable
from benchmarks.planning.names import unknown_name

PROJECT_ROOT = Path(benchmarks.__file__).resolve().parent.parent
SPEC_FILES = ("*/spec.py", "*/*_spec.py")

Environment = Callable[[Settings], Mapping[str, str]]


@dataclass(frozen=True)
class FrameworkEntry:
    """A framework's folder."""

    name: str
    module: str
    folder: Path
    capabilities: Capabilities
    environment: Environment
    """Environment variables that must be set before the framework is imported."""


@dataclass(frozen=True)
class WorkloadEntry:
    """One workload of a model's folder."""

    name: str
    spec: WorkloadSpec
    spec_module: str
    folder: Path


@dataclass(frozen=True)
class Catalog:
    """Everything that was found, each kind in the order of its folders' names."""

    frameworks: dict[str, FrameworkEntry]
    workloads: dict[str, WorkloadEntry]
    implementations: dict[tuple[str, str], ImplementationEntry]
    """The implementations by (workload, framework)."""
    python_path: tuple[str, ...] = ()
    """Folders that the workers need on their PYTHONPATH beside the project's root."""
    roots: tuple[Root, ...] = ()
    """Folders of the sources that results depend on: a change there makes earlier results stale."""
    metrics: tuple[object, ...] = ()
    """The metrics of the extension folders, not yet checked."""

    @property
    def bases(self) -> dict[str, str]:
        """For each library the framework that it computes with."""
        known = {name: entry.capabilities.base for name, entry in self.frameworks.items()}
        return {name: base for name, base in known.items() if base is not None}

    def specs(self) -> dict[str, WorkloadSpec]:
        """The workloads' mathematics by name."""
        return {name: entry.spec for name, entry in self.workloads.items()}


def discover(extensions: Sequence[Path] = ()) -> Catalog:
    """The catalog of this checkout and of the extension folders.

    Raises UsageError if a folder is no extension, a module in it cannot be loaded, or a name occurs
    twice.
    """
    folders = [_extension(folder) for folder in extensions]
    _refuse_twice([folder.name for folder in folders], "extension folders called")
    frameworks = list(_frameworks(_built_in("benchmarks/frameworks")))
    workloads = list(_workloads(_built_in("workloads")))
    implementations = list(find_implementations(_built_in("workloads")))
    metrics: list[object] = []
    for folder in folders:
        with loadable(folder):
            metrics += _metrics(_member(folder, "metrics"))
            frameworks += _frameworks(_member(folder, "frameworks"))
            workloads += _workloads(_member(folder, "workloads"))
        implementations += find_implementations(_member(folder, "workloads"))
    _refuse_twice([entry.name for entry in frameworks], "frameworks called")
    _refuse_wrong_bases(frameworks)
    _refuse_twice([entry.name for entry in workloads], "workloads called")
    _refuse_twice(
        [f"{entry.workload} in {entry.framework}" for entry in implementations],
        "implementations of",
    )
    _refuse_orphans(
        implementations,
        workloads=[entry.name for entry in workloads],
        frameworks=[entry.name for entry in frameworks],
    )
    _refuse_idle_rewriting(implementations, {entry.name: entry.spec for entry in workloads})
    return Catalog(
        frameworks={entry.name: entry for entry in frameworks},
        workloads={entry.name: entry for entry in workloads},
        implementations=by_framework(implementations, [entry.capabilities for entry in frameworks]),
        python_path=tuple(dict.fromkeys(str(folder.parent) for folder in folders)),
        roots=(
            _built_in("benchmarks/frameworks"),
            _built_in("workloads"),
            *(Root(folder, folder.name) for folder in folders),
        ),
        metrics=tuple(metrics),
    )


def _built_in(path: str) -> Root:
    return Root(PROJECT_ROOT / path, path.replace("/", "."))


def _member(extension: Path, name: str) -> Root:
    return Root(extension / name, f"{extension.name}.{name}")


def _extension(given: Path) -> Path:
    """The folder's absolute path; its name must be usable as the name of a new package."""
    folder = given.expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"--extend {given}: there is no such folder")
    name = folder.name
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"--extend {given}: {name!r} cannot be the name of a Python package")
    if name in sys.stdlib_module_names or name in ("benchmarks", "workloads"):
        raise UsageError(f"--extend {given}: {name} is another package; rename the folder")
    if not any((folder / member).is_dir() for member in ("frameworks", "workloads", "metrics")):
        raise UsageError(
            f"--extend {given}: expected a folder frameworks/, workloads/ or metrics/ in it"
        )
    return folder


def _frameworks(root: Root) -> Iterator[FrameworkEntry]:
    for file in sorted(root.folder.glob("*/__init__.py")):
        module = f"{root.package}.{file.parent.name}"
        loaded = load(module, file)
        if "FAMILY" in vars(loaded):
            continue
        capabilities = attribute(loaded, "CAPABILITIES", Capabilities)
        if capabilities.name != file.parent.name:
            raise UsageError(
                f"{file}: CAPABILITIES.name={capabilities.name!r},"
                f" expected the folder's name {file.parent.name!r}"
            )
        environment = function(loaded, "environment")
        yield FrameworkEntry(capabilities.name, module, file.parent, capabilities, environment)


def _metrics(root: Root) -> Iterator[object]:
    for file in sorted(root.folder.glob("*.py")):
        if file.stem != "__init__":
            yield from attribute(load(f"{root.package}.{file.stem}", file), "METRICS", tuple)


def _workloads(root: Root) -> Iterator[WorkloadEntry]:
    for file in sorted(file for pattern in SPEC_FILES for file in root.folder.glob(pattern)):
        module = f"{root.package}.{file.parent.name}.{file.stem}"
        specs = attribute(load(module, file), "SPECS", dict)
        for name, spec in specs.items():
            if spec.name != name:
                raise UsageError(f"{file}: SPECS[{name!r}] is called {spec.name!r}")
            wrong = _wrong_memory(spec) or _wrong_option(spec)
            if wrong:
                raise UsageError(f"{file}: SPECS[{name!r}]: {wrong}")
            yield WorkloadEntry(name, spec, module, file.parent)


def _wrong_memory(spec: WorkloadSpec) -> str | None:
    """Why a workload's memory cannot be estimated as the planner asks for it, or None."""
    signature = inspect.signature(spec.memory_bytes)
    try:
        signature.bind("case", "capabilities")
    except TypeError:
        return (
            f"memory_bytes{signature} cannot be called: expected memory_bytes(case, capabilities),"
            " whose second argument is the Capabilities of the framework that computes the case"
        )
    return None


def _wrong_option(spec: WorkloadSpec) -> str | None:
    """Why a workload's options cannot be used, or None."""
    names = [*spec.options, *spec.way_options]
    taken = (*AXES, *GROUPS)
    for name in names:
        if not name.isidentifier() or name in taken or names.count(name) > 1:
            return f"option {name!r}: expected a name of its own, none of {', '.join(taken)}"
        if not (spec.options.get(name) or spec.way_options.get(name)):
            return f"option {name!r} has no values"
    if spec.way_options.get(RECIPE, RECIPES) != RECIPES or RECIPE in spec.options:
        return f"option {RECIPE!r}: expected way_options={{{RECIPE!r}: {RECIPES}}}"
    for size, chosen in spec.size_options.items():
        if size not in spec.sizes:
            return f"size_options of {size!r}: expected one of the sizes {', '.join(spec.sizes)}"
        if RECIPE in chosen:
            return f"size_options[{size!r}]: the default {RECIPE} is {IDIOMATIC} at every size"
        for name, value in chosen.items():
            if value not in spec.options.get(name, spec.way_options.get(name, ())):
                return f"size_options[{size!r}]: {name}={value!r} is not among the option's values"
    return None


def _refuse_twice(names: Sequence[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"there are two {what} {', '.join(twice)}; each name may occur once")


def _refuse_wrong_bases(entries: Sequence[FrameworkEntry]) -> None:
    """UsageError unless a library's base is a known framework, no library, and it has no oracle."""
    known = {entry.name: entry.capabilities for entry in entries}
    for entry in entries:
        own, where = entry.capabilities, f"{entry.folder}: CAPABILITIES.base"
        if own.base is None:
            continue
        if own.base not in known:
            raise unknown_name(own.base, known, kind="framework", where=where)
        if known[own.base].base is not None:
            raise UsageError(
                f"{where}: {own.base} is a library on {known[own.base].base} itself",
                hint=f"name the framework that computes: base={known[own.base].base!r}",
            )
        if own.holds_oracle:
            raise UsageError(
                f"{entry.folder}: a library on {own.base} cannot hold the oracle, because it is"
                f" not independent of {own.base}",
                hint="expected holds_oracle=False, as capabilities_on() sets it",
            )


def _refuse_idle_rewriting(
    entries: Iterable[ImplementationEntry], specs: Mapping[str, WorkloadSpec]
) -> None:
    """UsageError if an implementation has a tuned recipe that nobody could select."""
    for entry in entries:
        if entry.rewrites is not None and RECIPE not in specs[entry.workload].way_options:
            raise UsageError(
                f"{entry.file}: TUNED: {entry.workload} has no option {RECIPE}",
                hint=f"in its spec, expected way_options={{{RECIPE!r}: {RECIPES}}}",
            )


def _refuse_orphans(
    entries: Iterable[ImplementationEntry], *, workloads: Sequence[str], frameworks: Sequence[str]
) -> None:
    """UsageError for an unknown name: a misspelt workload would look like one not implemented."""
    for entry in entries:
        if entry.workload not in workloads:
            where = f"{entry.file}: IMPLEMENTS"
            raise unknown_name(entry.workload, workloads, kind="workload", where=where)
        for exporter in entry.programs:
            if exporter not in frameworks:
                where = f"{entry.file}: {' or '.join(PROGRAMS)}"
                raise unknown_name(exporter, frameworks, kind="framework", where=where)
