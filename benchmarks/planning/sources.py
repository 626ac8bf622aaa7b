"""The source files that a result depends on, and their hash; files are parsed and never run.

A file's closure is the file and every file below the roots that it imports, directly or not, also
inside functions. The programs that export an implementation's model count with it. Code outside the
roots counts by version: packages by the version that the probe reports, the harness by
PROTOCOL_VERSION for results, and by its source for proofs.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.planning.catalog import PROJECT_ROOT, Catalog
from benchmarks.planning.implementations import Root


class Sources:
    """The sources below some roots; each file is read and parsed once."""

    def __init__(self, roots: Iterable[Root]) -> None:
        self._roots = tuple(roots)
        self._imports: dict[str, frozenset[str]] = {}
        self._hashes: dict[str, str] = {}
        self._closures: dict[tuple[str, ...], str] = {}

    def hash_of(self, modules: Sequence[str]) -> str:
        """One hash of the modules and of everything that they import below the roots."""
        key = tuple(modules)
        if key not in self._closures:
            text = "\n".join(f"{one} {self._hashes[one]}" for one in sorted(self._closure(key)))
            self._closures[key] = hashlib.sha256(text.encode()).hexdigest()
        return self._closures[key]

    def _closure(self, modules: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module not in found and self._read(module):
                found.add(module)
                waiting += self._imports[module]
        return found

    def _read(self, module: str) -> bool:
        """Whether the module lies below a root; if so, its hash and imports are then known."""
        if module in self._hashes:
            return True
        file = self._file(module)
        if file is None:
            return False
        raw = file.read_bytes()
        self._hashes[module] = hashlib.sha256(raw).hexdigest()
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        self._imports[module] = frozenset(_imported(raw, package))
        return True

    def _file(self, module: str) -> Path | None:
        for root in self._roots:
            if module == root.package or module.startswith(f"{root.package}."):
                parts = module.removeprefix(root.package).strip(".").split(".")
                path = root.folder.joinpath(*parts)
                candidates = (path.with_suffix(".py"), path / "__init__.py")
                return next((file for file in candidates if file.is_file()), None)
        return None


def implementation_hash(sources: Sources, catalog: Catalog, key: tuple[str, str]) -> str:
    """The hash of all code behind one (workload, framework).

    That is the mathematics, the program, its exporters and the adapter.
    """
    workload, framework = key
    module = catalog.frameworks[framework].module
    return sources.hash_of(
        [
            catalog.workloads[workload].spec_module,
            catalog.workloads[workload].spec.task.module,
            catalog.implementations[key].module,
            *catalog.implementations[key].exported_from.values(),
            *catalog.implementations[key].quantised_by.values(),
            module,
            f"{module}.adapter",
        ]
    )


@functools.cache
def proving_hash(harness: Path = PROJECT_ROOT / "benchmarks") -> str:
    """The hash of all code that makes and judges proofs.

    It includes the kinds of work, which a worker finds by their names and not by an import.
    """
    tasks = sorted(file.parent.name for file in harness.glob("worker/tasks/*/task.py"))
    modules = ["proof_launch", *(f"tasks.{name}.task" for name in tasks)]
    return Sources([Root(harness, "benchmarks")]).hash_of(
        [f"benchmarks.worker.{name}" for name in modules]
    )


def _imported(source: bytes, package: str) -> Iterator[str]:
    """Modules that a source may import; `from a import b` stands for both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])
