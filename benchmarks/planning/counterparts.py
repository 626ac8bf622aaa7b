"""Counterparts: a library's case without the library, a tuned case without its tuning.

They are selected with the case, and measured beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from benchmarks.contract.case import Case
from benchmarks.contract.plan import Cell
from benchmarks.contract.record import SERIAL, TOGETHER
from benchmarks.planning.cohorts import Fits, Part, packed


def with_idiomatic(cells: Sequence[Cell], draft: Callable[[Case], Cell]) -> Iterator[Cell]:
    """The cells; each tuned one that can run comes after its idiomatic one, which is added.

    Without it the gain of the tuning could not be shown.
    """
    selected = {cell.case for cell in cells}
    for cell in cells:
        idiomatic = cell.case.idiomatic
        if idiomatic is not None and idiomatic not in selected and cell.action == "run":
            yield draft(idiomatic)
        yield cell


def counterpart_parts(cells: Sequence[Cell], parts: Sequence[Part], fits: Fits) -> Iterator[Part]:
    """Parts for the cells that are in no part with one of their counterparts."""
    by_case = {cell.case: cell for cell in cells}
    apart: dict[Case, list[Cell]] = defaultdict(list)
    for cell in cells:
        for case in cell.case.counterparts:
            base = by_case.get(case)
            if base and not any(cell in part.cells and base in part.cells for part in parts):
                apart[case].append(cell)
    index = len(parts)
    for case, compared in apart.items():
        chunks, alone = packed(compared, [by_case[case]], fits)
        for others in (*chunks, *([cell] for cell in alone)):
            yield Part(
                by_case[case],
                tuple(others),
                resident=SERIAL if others[0] in alone else TOGETHER,
                index=index,
                counts_base=False,
                of_counterparts=True,
            )
            index += 1
