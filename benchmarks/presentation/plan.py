"""A plan on the terminal: the cells by action and reason, the cohorts, the time."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.contract.plan import Cell, Plan
from benchmarks.presentation.columns import aligned
from benchmarks.presentation.wording import count, duration, framework_name, group_name, way_options

ACTIONS = ("run", "have", "skip")
"""The actions in the order in which cells are listed."""


def describe(plan: Plan, *, options: Sequence[str] = ()) -> str:
    """The plan for a terminal: counts, cells by action and reason, cohorts, time.

    The command that starts the run is shown with `options` and the overrides.
    """
    start = shlex.join(["dyno", "run", *options, *plan.overrides])
    return "\n".join([*_headline(plan), *_table(plan.cells), *_outlook(plan, start)])


def _headline(plan: Plan) -> Iterator[str]:
    counts = Counter(cell.action for cell in plan.cells)
    yield (
        f"{count(len(plan.cells), 'cell')}: {counts['run']} to run, {counts['have']} measured"
        f" already, {counts['skip']} skipped (suite {plan.suite}, protocol {plan.protocol.name})"
    )


def _table(cells: Iterable[Cell]) -> list[str]:
    """One line for the cells of a framework that share work, options, action and reason."""
    lines: dict[tuple[str, ...], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: ACTIONS.index(cell.action)):
        options = " ".join(way_options(cell.case))
        key = (
            *(cell.action, framework_name(cell.case), group_name(cell.case)),
            *(options, cell.reason or ""),
        )
        lines.setdefault(key, []).append(cell)
    return aligned(
        [
            (
                action,
                framework,
                group,
                ",".join(dict.fromkeys(cell.case.way.execution for cell in own)),
                ",".join(dict.fromkeys(cell.case.way.precision for cell in own))
                + (f" {options}" if options else ""),
                _why(own[0]),
            )
            for (action, framework, group, options, _), own in lines.items()
        ],
        indent="  ",
    )


def _why(cell: Cell) -> str:
    if cell.action == "skip":
        return f"{str(cell.kind).replace('_', ' ')}: {cell.reason}"
    return cell.reason or ""


def _outlook(plan: Plan, start: str) -> Iterator[str]:
    """How much there is to run, how long it will take, and the basis of that estimate."""
    seconds = plan.estimate_s
    if seconds is None:
        yield "Nothing is left to run"
        return
    num_launches = sum(len(cohort.launches) for cohort in plan.cohorts)
    num_groups = len({cohort.group_id for cohort in plan.cohorts})
    bases = Counter(cell.estimate_basis for cell in plan.cells if cell.estimate_basis)
    basis = ", ".join(f"{basis} for {count(n, 'cell')}" for basis, n in bases.items())
    yield (
        f"{count(len(plan.cohorts), 'cohort')} of {count(num_groups, 'group')},"
        f" {count(num_launches, 'launch')}, about {duration(seconds)} ({basis})"
    )
    yield f"Nothing was run. Start:  {start}"
