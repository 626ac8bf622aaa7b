"""Libraries: how they are selected, and measured beside the framework that they compute with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.contract.case import Case
from benchmarks.contract.plan import Cell
from benchmarks.contract.record import SERIAL, TOGETHER
from benchmarks.errors import UsageError
from benchmarks.planning.cohorts import Fits, Part, packed

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


def cost_parts(cells: Sequence[Cell], parts: Sequence[Part], fits: Fits) -> Iterator[Part]:
    """Parts for libraries that are in no part with the same case of their own base."""
    by_case = {cell.case: cell for cell in cells}
    apart: dict[Case, list[Cell]] = defaultdict(list)
    for cell in cells:
        on_base = cell.case.on_base
        base = by_case.get(on_base) if on_base else None
        if base and not any(cell in part.cells and base in part.cells for part in parts):
            apart[base.case].append(cell)
    index = len(parts)
    for case, libraries in apart.items():
        chunks, alone = packed(libraries, [by_case[case]], fits)
        for others in (*chunks, *([cell] for cell in alone)):
            yield Part(
                by_case[case],
                tuple(others),
                resident=SERIAL if others[0] in alone else TOGETHER,
                index=index,
                counts_base=False,
                is_cost=True,
            )
            index += 1
