"""Loads the descriptions of frameworks and workloads: modules that import no framework."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from benchmarks.errors import UsageError

T = TypeVar("T")

CONTRACT_HINT = "if it was written for an earlier Dyno: CHANGELOG.md says how the contract changed"


@contextlib.contextmanager
def loadable(package: Path) -> Iterator[None]:
    """A context in which modules of the package in this folder can be imported.

    All imports are undone afterwards, so that two extensions of one name can be loaded one after
    the other. The folder's parent is searched last, so that nothing beside the package hides an
    installed module.
    """
    ours = {name for name in sys.modules if _is_in(package.name, name)}
    before = {name: sys.modules.pop(name) for name in ours}
    search_path = list(sys.path)
    sys.path.append(str(package.parent))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = search_path
        for name in [name for name in sys.modules if _is_in(package.name, name)]:
            del sys.modules[name]
        sys.modules.update(before)


def load(module: str, file: Path) -> ModuleType:
    """The module of this name, which must be the one in this file.

    Raises UsageError if it fails to load, or if another module of this name is found first.
    """
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # a user's file may raise anything
        cause = f"{type(error).__name__}: {error}"
        raise UsageError(f"{file} cannot be loaded: {cause}", hint=CONTRACT_HINT) from error
    if loaded.__file__ is None or Path(loaded.__file__).resolve() != file.resolve():
        raise UsageError(
            f"{file} cannot be loaded: the module {module} is {loaded.__file__}",
            hint="give the folder another name",
        )
    return loaded


def attribute(module: ModuleType, name: str, kind: type[T]) -> T:
    """The module's attribute of this name; UsageError if it is missing or has another type."""
    value = vars(module).get(name)
    if not isinstance(value, kind):
        raise UsageError(f"{module.__file__}: expected {name} of type {kind.__name__}")
    return value


def function(module: ModuleType, name: str) -> Callable[..., Any]:
    """The module's function of this name; UsageError if it is missing or no function."""
    value: Callable[..., Any] | None = vars(module).get(name)
    if value is None or not callable(value):
        raise UsageError(f"{module.__file__}: expected a function {name}")
    return value


def _is_in(package: str, module: str) -> bool:
    return module == package or module.startswith(f"{package}.")
