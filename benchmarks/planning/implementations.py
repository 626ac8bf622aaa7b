"""The implementations of workloads, read from the literals of their files without running them.

    <model>/<framework>/*.py        files with IMPLEMENTS; others hold what these share
    <model>/<framework>_impl.py     one file, if a model needs no more

A family's name in place of a framework's stands for every framework of the family.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.contract.device import DEVICE_KINDS
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.precision import PRECISIONS
from benchmarks.errors import UsageError
from benchmarks.planning.names import unknown_name

IMPLEMENTATION_SUFFIX = "_impl"
PROGRAMS = ("EXPORTED_FROM", "QUANTISED_BY")
LITERALS = ("IMPLEMENTS", "PER_REPLICA", "DIFFERS", "TUNED", "TUNED_ON", *PROGRAMS)
"""The literals that are read from an implementation file; see `contract.program`."""
EARLIER_LITERALS = ("EXPORTER", "QUANTISER")


@dataclass(frozen=True)
class Root:
    """A package's folder, in which frameworks, workloads, implementations or metrics are found."""

    folder: Path
    package: str


@dataclass(frozen=True)
class ImplementationEntry:
    """One framework's implementation of one workload."""

    workload: str
    framework: str
    """The framework that the file's path names; a family until `_by_framework` resolves it."""
    module: str
    file: Path
    exported_from: Mapping[str, str] = field(default_factory=dict)
    """Programs that make the files which the implementation loads: each module by the framework
    whose interpreter runs it."""
    quantised_by: Mapping[str, str] = field(default_factory=dict)
    """Programs that then quantise those files, only in a quantised precision; likewise."""
    is_per_replica: bool = False
    """Whether it takes batch statistics over each of `Work.num_replicas` parts of the batch."""
    differs: str | None = None
    """How its mathematics differs from the workload's; if it does, it is not compared."""
    rewrites: str | None = None
    """The operations that it rewrites with `recipe=tuned`; None if it has no such recipe."""
    rewrites_on: frozenset[str] = frozenset(DEVICE_KINDS)
    """The kinds of devices on which it rewrites them."""

    @property
    def programs(self) -> dict[str, str]:
        """Every module that makes files, in any precision, each by its framework."""
        return {**self.exported_from, **self.quantised_by}

    def exporters(self, precision: str) -> dict[str, str]:
        """The modules that make the files in this precision, each by its framework."""
        return self.programs if PRECISIONS[precision].is_quantised else dict(self.exported_from)


def find_implementations(root: Root) -> Iterator[ImplementationEntry]:
    """Every implementation below a folder of models; UsageError if a literal cannot be used."""
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
    literals = read_literals(file, (*LITERALS, *EARLIER_LITERALS))
    earlier = next((name for name in EARLIER_LITERALS if name in literals), None)
    if earlier is not None:
        raise UsageError(
            f"{file}: {earlier} is no longer read",
            hint='name each exporter by its framework: EXPORTED_FROM = {"pytorch": "a.module"}',
        )
    names = _names(file, literals, "IMPLEMENTS")
    per_replica = _names(file, literals, "PER_REPLICA", among=names)
    exported_from, quantised_by = (
        _texts(file, literals, name, what="modules by framework") for name in PROGRAMS
    )
    differs = _texts(file, literals, "DIFFERS", what="reasons by workload")
    tuned = _texts(file, literals, "TUNED", what="rewritings by workload")
    for literal, texts in (("DIFFERS", differs), ("TUNED", tuned)):
        _refuse_unimplemented(file, literal, texts, names)
    tuned_on = _tuned_on(file, literals, tuned)
    for workload in sorted(names):
        yield ImplementationEntry(
            workload,
            framework,
            module,
            file,
            exported_from,
            quantised_by,
            is_per_replica=workload in per_replica,
            differs=differs.get(workload),
            rewrites=tuned.get(workload),
            rewrites_on=tuned_on.get(workload, frozenset(DEVICE_KINDS)),
        )


def _names(
    file: Path, literals: Mapping[str, Any], literal: str, *, among: Iterable[str] | None = None
) -> set[str]:
    """The names in a literal set, none if the file lacks it; each must be in `among`."""
    names = literals.get(literal, set())
    if not isinstance(names, set) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{file}: expected a literal set of names, {literal} = {{...}}")
    if among is not None:
        _refuse_unimplemented(file, literal, names, among)
    return names


def _texts(file: Path, literals: Mapping[str, Any], literal: str, *, what: str) -> dict[str, str]:
    """The texts by name in a literal dict; none if the file lacks it."""
    texts = literals.get(literal, {})
    is_of_texts = isinstance(texts, dict) and all(
        isinstance(text, str) for item in texts.items() for text in item
    )
    if not is_of_texts:
        raise UsageError(f"{file}: expected {what}, {literal} = {{...}}")
    return dict(texts)


def _tuned_on(
    file: Path, literals: Mapping[str, Any], tuned: Iterable[str]
) -> dict[str, frozenset[str]]:
    """The kinds of devices by workload; UsageError for an unknown one, or a workload not tuned."""
    found = literals.get("TUNED_ON", {})
    if not isinstance(found, dict) or not all(isinstance(one, set) for one in found.values()):
        raise UsageError(f"{file}: expected sets of devices by workload, TUNED_ON = {{...}}")
    for workload, devices in found.items():
        where = f"{file}: TUNED_ON"
        if workload not in tuned:
            raise unknown_name(str(workload), tuned, kind="workload of TUNED", where=where)
        for device in devices:
            if device not in DEVICE_KINDS:
                raise unknown_name(str(device), DEVICE_KINDS, kind="device", where=where)
    return {workload: frozenset(devices) for workload, devices in found.items()}


def _refuse_unimplemented(
    file: Path, literal: str, names: Iterable[str], implemented: Iterable[str]
) -> None:
    for name in sorted(names):
        if name not in implemented:
            raise unknown_name(
                name, sorted(implemented), kind="workload of IMPLEMENTS", where=f"{file}: {literal}"
            )


def by_framework(
    entries: Sequence[ImplementationEntry], frameworks: Sequence[Capabilities]
) -> dict[tuple[str, str], ImplementationEntry]:
    """The implementations by (workload, framework).

    A framework's own file takes precedence over its family's. An unknown name is kept as it is.
    """
    families = {one.family for one in frameworks} - {one.name for one in frameworks}
    own = {(one.workload, one.framework): one for one in entries if one.framework not in families}
    shared = {
        (entry.workload, framework.name): replace(entry, framework=framework.name)
        for framework in frameworks
        for entry in entries
        if entry.framework == framework.family
    }
    return {**shared, **own}


def read_literals(file: Path, names: Iterable[str]) -> dict[str, Any]:
    """The literals that a file assigns to these names at its top level.

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
