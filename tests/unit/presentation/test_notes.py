"""Notes below a run's tables that stand for one kind of case."""

from benchmarks.contract.plan import Cell
from benchmarks.presentation.notes import notes
from tests.unit.analysis.records import key_of, plan
from tests.unit.analysis.test_recipes import JAX, TIMES, TORCH, launches, summary_of


def test_times_that_nothing_was_held_against_are_told():
    times = {one: TIMES[one] for one in (TORCH, JAX)}
    cells = tuple(
        Cell(one, "run", result_key=key_of(one), has_own_clock=one is JAX) for one in times
    )
    bases = plan(list(times)).bases
    summary = summary_of(launches(times), list(times), cells=cells, bases=bases)
    told = [line for line in notes(summary) if "own clock" in line]
    assert len(told) == 1
    assert "jax compiled fp32" in told[0]
    assert "pytorch" not in told[0].partition(": ")[2]
