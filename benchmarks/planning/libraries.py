"""Libraries: how they are selected, each with the framework that it computes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.errors import UsageError

LIBRARIES = "libraries"
"""The value of the axis `framework` that stands for libraries."""


def with_bases(
    names: Sequence[str], bases: Mapping[str, str], *, where: str = ""
) -> tuple[str, ...]:
    """The frameworks of a selection: `libraries` is expanded, and each library's base is added.

    `libraries` stands for the libraries on the frameworks that are named beside it; alone, for all.
    A base that is not named comes right before its first library. `bases` are those of all
    libraries, by name. Raises UsageError if `libraries` stands for none.
    """
    named = [name for name in names if name != LIBRARIES]
    if len(named) < len(names):
        meant = [name for name, base in bases.items() if not named or base in named]
        if not meant:
            whose = f" on {', '.join(named)}" if named else ""
            raise UsageError(f"{where}: there are no libraries{whose} here")
        named += meant
    added: list[str] = []
    for name in named:
        base = bases.get(name)
        added += [name] if base is None or base in named else [base, name]
    return tuple(dict.fromkeys(added))


def others_first(names: Sequence[str], bases: Mapping[str, str]) -> tuple[str, ...]:
    """The names with libraries last, so that none of them is the base of a group."""
    return tuple(sorted(names, key=lambda name: name in bases))
