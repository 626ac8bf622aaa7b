"""What can be measured: frameworks, workloads and implementations, found in their folders.

    benchmarks/frameworks/<name>/__init__.py     CAPABILITIES and environment(settings), or FAMILY
    workloads/<model>/spec.py, *_spec.py         SPECS
    workloads/<model>/<framework>/*.py           those with IMPLEMENTS, read without importing them
    workloads/<model>/<framework>_impl.py        the same in one file, if a model needs no more
    workloads/<model>/<family>/*.py, ..._impl.py the same for every framework of a family

An extension folder DIR holds `frameworks/` and `workloads/` of the same shape; its modules are
named after it, `<DIR.name>.frameworks.<name>`, and DIR.parent joins the workers' PYTHONPATH.
No framework is imported.
"""

from __future__ import annotations

import ast
import inspect
import keyword
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks.contract.framework import Capabilities, Settings
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.errors import UsageError
from benchmarks.planning.loading import attribute, function, load, loadable
from benchmarks.planning.names import unknown_name
from benchmarks.planning.overrides import AXES, GROUPS

PROJECT_ROOT = Path(benchmarks.__file__).resolve().parent.parent
SPEC_FILES = ("*/spec.py", "*/*_spec.py")
IMPLEMENTATION_SUFFIX = "_impl"
PROGRAMS = ("EXPORTED_FROM", "QUANTISED_BY")
"""Literals of an implementation file beside IMPLEMENTS; see `ImplementationEntry`."""

Environment = Callable[[Settings], Mapping[str, str]]


@dataclass(frozen=True)
class Root:
    """A folder of a package in which members are looked for."""

    folder: Path
    package: str


@dataclass(frozen=True)
class FrameworkEntry:
    """A framework's folder."""

    name: str
    module: str
    folder: Path
    capabilities: Capabilities
    environment: Environment
    """Variables that must stand before the framework is imported."""


@dataclass(frozen=True)
class WorkloadEntry:
    """One workload of a model's folder."""

    name: str
    spec: WorkloadSpec
    spec_module: str
    folder: Path


@dataclass(frozen=True)
class ImplementationEntry:
    """One framework's implementation of one workload."""

    workload: str
    framework: str
    """The name in the file's: a framework's, or a family's until `_by_framework` resolves it."""
    module: str
    file: Path
    exported_from: Mapping[str, str] = field(default_factory=dict)
    """Programs that make the files which the implementation loads: each module by the framework
    whose interpreter runs it."""
    quantised_by: Mapping[str, str] = field(default_factory=dict)
    """The same, for what is done to those files in int8 alone."""

    def exporters(self, precision: str) -> dict[str, str]:
        """The modules that make the files in this precision, each by its framework."""
        return {**self.exported_from, **(self.quantised_by if precision == "int8" else {})}


@dataclass(frozen=True)
class Catalog:
    """Everything that was found, each kind in the order of its folders' names."""

    frameworks: dict[str, FrameworkEntry]
    workloads: dict[str, WorkloadEntry]
    implementations: dict[tuple[str, str], ImplementationEntry]
    """By (workload, framework)."""
    python_path: tuple[str, ...] = ()
    """Folders that the workers need on their PYTHONPATH beside the project's root."""
    roots: tuple[Root, ...] = ()
    """Where the sources lie whose change makes a result another one."""

    def specs(self) -> dict[str, WorkloadSpec]:
        """The workloads' mathematics by name."""
        return {name: entry.spec for name, entry in self.workloads.items()}


def discover(extensions: Sequence[Path] = ()) -> Catalog:
    """The catalog of this checkout and of the extension folders.

    Raises UsageError where a folder is no extension, a module in it cannot be loaded, or a name is
    there twice.
    """
    folders = [_extension(folder) for folder in extensions]
    _refuse_twice([folder.name for folder in folders], "extension folders called")
    frameworks = list(_frameworks(_built_in("benchmarks/frameworks")))
    workloads = list(_workloads(_built_in("workloads")))
    implementations = list(_implementations(_built_in("workloads")))
    for folder in folders:
        with loadable(folder):
            frameworks += _frameworks(_member(folder, "frameworks"))
            workloads += _workloads(_member(folder, "workloads"))
        implementations += _implementations(_member(folder, "workloads"))
    _refuse_twice([entry.name for entry in frameworks], "frameworks called")
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
    return Catalog(
        frameworks={entry.name: entry for entry in frameworks},
        workloads={entry.name: entry for entry in workloads},
        implementations=_by_framework(implementations, frameworks),
        python_path=tuple(dict.fromkeys(str(folder.parent) for folder in folders)),
        roots=(
            _built_in("benchmarks/frameworks"),
            _built_in("workloads"),
            *(Root(folder, folder.name) for folder in folders),
        ),
    )


def _built_in(path: str) -> Root:
    return Root(PROJECT_ROOT / path, path.replace("/", "."))


def _member(extension: Path, name: str) -> Root:
    return Root(extension / name, f"{extension.name}.{name}")


def _extension(given: Path) -> Path:
    """The folder, absolute; its name must do as the name of a package of its own."""
    folder = given.expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"--extend {given}: there is no such folder")
    name = folder.name
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"--extend {given}: {name!r} cannot be the name of a Python package")
    if name in sys.stdlib_module_names or name in ("benchmarks", "workloads"):
        raise UsageError(f"--extend {given}: a package called {name} is there already")
    if not any((folder / member).is_dir() for member in ("frameworks", "workloads")):
        raise UsageError(f"--extend {given}: expected a folder frameworks/ or workloads/ in it")
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
    """What a workload's options cannot be, or None."""
    names = [*spec.options, *spec.way_options]
    taken = (*AXES, *GROUPS)
    for name in names:
        if not name.isidentifier() or name in taken or names.count(name) > 1:
            return f"option {name!r}: expected a name of its own, none of {', '.join(taken)}"
        if not (spec.options.get(name) or spec.way_options.get(name)):
            return f"option {name!r} has no values"
    for size, chosen in spec.size_options.items():
        if size not in spec.sizes:
            return f"size_options of {size!r}, which is no size: {', '.join(spec.sizes)}"
        for name, value in chosen.items():
            if value not in spec.options.get(name, spec.way_options.get(name, ())):
                return f"size_options[{size!r}]: {name}={value!r} is none of the option's values"
    return None


def _implementations(root: Root) -> Iterator[ImplementationEntry]:
    for file in sorted(root.folder.glob(f"*/*{IMPLEMENTATION_SUFFIX}.py")):
        framework = file.stem.removesuffix(IMPLEMENTATION_SUFFIX)
        module = f"{root.package}.{file.parent.name}.{file.stem}"
        found = list(_in_file(file, framework, module))
        if not found:
            raise UsageError(f"{file}: expected a literal set of names, IMPLEMENTS = {{...}}")
        yield from found
    for folder in sorted(path for path in root.folder.glob("*/*") if any(path.glob("*.py"))):
        package = f"{root.package}.{folder.parent.name}.{folder.name}"
        entries = [
            entry
            for file in sorted(folder.glob("*.py"))
            for entry in _in_file(file, folder.name, f"{package}.{file.stem}")
        ]
        if not entries:
            raise UsageError(
                f"{folder}: no file in it has a literal set of names, IMPLEMENTS = {{...}}"
            )
        yield from entries


def _in_file(file: Path, framework: str, module: str) -> Iterator[ImplementationEntry]:
    """The implementations that a file names in its literals; the file is parsed and not run."""
    literals = read_literals(file, ("IMPLEMENTS", *PROGRAMS, "EXPORTER"))
    if "EXPORTER" in literals:
        raise UsageError(
            f"{file}: EXPORTER is no longer read",
            hint='name each exporter by its framework: EXPORTED_FROM = {"pytorch": "a.module"}',
        )
    names = literals.get("IMPLEMENTS", set())
    if not isinstance(names, set) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{file}: expected a literal set of names, IMPLEMENTS = {{...}}")
    programs = [literals.get(name, {}) for name in PROGRAMS]
    for name, known in zip(PROGRAMS, programs, strict=True):
        if not isinstance(known, dict) or not all(
            isinstance(text, str) for item in known.items() for text in item
        ):
            raise UsageError(f"{file}: expected modules by framework, {name} = {{...}}")
    for workload in sorted(names):
        yield ImplementationEntry(workload, framework, module, file, *programs)


def _by_framework(
    entries: Sequence[ImplementationEntry], frameworks: Sequence[FrameworkEntry]
) -> dict[tuple[str, str], ImplementationEntry]:
    """The implementations by (workload, framework).

    A framework's own file comes before its family's. What names neither stays as it is.
    """
    families = {one.capabilities.family for one in frameworks} - {one.name for one in frameworks}
    own = {(one.workload, one.framework): one for one in entries if one.framework not in families}
    shared = {
        (entry.workload, framework.name): replace(entry, framework=framework.name)
        for framework in frameworks
        for entry in entries
        if entry.framework == framework.capabilities.family
    }
    return {**shared, **own}


def read_literals(file: Path, names: Iterable[str]) -> dict[str, Any]:
    """The values of those of these names that a file assigns literals to, at its top level.

    The file is parsed and not run. Raises UsageError if it cannot be parsed, or a value is no
    literal.
    """
    found: dict[str, Any] = {}
    name = " or ".join(names)
    try:
        for statement in ast.parse(file.read_bytes()).body:
            if not isinstance(statement, ast.Assign):
                continue
            for target in statement.targets:
                if isinstance(target, ast.Name) and target.id in names:
                    name = target.id
                    found[name] = ast.literal_eval(statement.value)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{file}: {name} cannot be read: {error}") from error
    return found


def _refuse_twice(names: Sequence[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"there are two {what} {', '.join(twice)}; each name may be there once")


def _refuse_orphans(
    entries: Iterable[ImplementationEntry], *, workloads: Sequence[str], frameworks: Sequence[str]
) -> None:
    """A misspelt workload would otherwise look like one that is not implemented."""
    for entry in entries:
        if entry.workload not in workloads:
            where = f"{entry.file}: IMPLEMENTS"
            raise unknown_name(entry.workload, workloads, kind="workload", where=where)
        for exporter in entry.exporters("int8"):
            if exporter not in frameworks:
                where = f"{entry.file}: {' or '.join(PROGRAMS)}"
                raise unknown_name(exporter, frameworks, kind="framework", where=where)
