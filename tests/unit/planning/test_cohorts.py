"""Cells become parts that fit together, and parts become cohorts."""

import dataclasses

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.plan import Cell
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.planning.cohorts import (
    Part,
    bases_of,
    cohorts_of,
    packed,
    parts_of,
    with_missing,
)
from benchmarks.planning.history import History
from tests.unit.analysis.records import record

PROTOCOL = MeasuringProtocol(num_cohorts=2)
NOTHING = History([])


def cell(name, *, base=None, precision="fp32", differs=None):
    case = Case(Work("toy", 1, "tiny", 4), Way(name, "eager", precision, base=base), Place("cpu"))
    return Cell(case, "run", memory_bytes=1, result_key=name, differs=differs)


def at_most(num_cells):
    return lambda cells: len(cells) <= num_cells


def names(cells):
    return [one.case.way.framework for one in cells]


A, B, C, D = map(cell, "abcd")
LIBRARY = cell("library", base="b")


@pytest.mark.parametrize(
    ("room", "chunks", "others"),
    [(4, [["a", "b", "c"]], []), (3, [["a", "b"], ["c"]], []), (1, [], ["a", "b", "c"])],
)
def test_cells_are_packed_beside_their_company_in_as_few_chunks_as_fit(room, chunks, others):
    found = packed([A, B, C], [D], at_most(room))
    assert [names(chunk) for chunk in found.chunks] == chunks
    assert names(found.others) == others


@pytest.mark.parametrize(
    ("room", "aa", "parts"),
    [
        (3, False, [("a", ["b", "c"], "together")]),
        (2, False, [("a", ["b"], "together"), ("a", ["c"], "together")]),
        (1, False, [("a", ["b"], "serial"), ("a", ["c"], "serial")]),
        (3, True, [("a", ["b"], "together"), ("a", ["c"], "together")]),
        (2, True, [("a", [], "together"), ("a", ["b"], "together"), ("a", ["c"], "together")]),
        (1, True, [("a", [], "serial"), ("a", ["b"], "serial"), ("a", ["c"], "serial")]),
    ],
)
def test_each_part_holds_the_base_and_the_first_counts_it(room, aa, parts):
    found = parts_of([A, B, C], at_most(room), aa=aa)
    assert [(*names([one.base]), names(one.others), one.resident) for one in found] == parts
    assert [one.counts_base for one in found] == [True] + [False] * (len(found) - 1)
    assert [one.index for one in found] == list(range(len(found)))


def test_the_base_is_the_first_whose_mathematics_is_the_workloads():
    odd = cell("odd", differs="no decay")
    [part] = parts_of([odd, A, B], at_most(9), aa=False)
    assert (names([part.base]), names(part.others)) == (["a"], ["odd", "b"])
    [alone] = parts_of([odd], at_most(9), aa=False)
    assert alone.base is odd


def test_each_precision_has_its_own_base():
    half = [cell("b", precision="bf16"), cell("a", precision="bf16")]
    found = bases_of(parts_of([A, B, *half], at_most(9), aa=False))
    assert found == {
        **{one.case.case_id: A.case.case_id for one in (A, B)},
        **{one.case.case_id: half[0].case.case_id for one in half},
    }


def test_a_part_for_a_librarys_cost_gives_no_case_its_base():
    cost = Part(B, (LIBRARY,), of_counterparts=True)
    assert bases_of([Part(A, (B,)), cost]) == {one.case.case_id: A.case.case_id for one in (A, B)}


def test_what_a_library_computes_with_is_launched_beside_it_again():
    had = Part(A, (B, LIBRARY), missing={B.case.case_id: 0, LIBRARY.case.case_id: 2})
    found = cohorts_of([had], NOTHING, PROTOCOL, "run")
    expected = [one.case.case_id for one in (A, B, LIBRARY)]
    assert [[one.case_id for one in cohort.launches] for cohort in found] == [expected] * 2


def test_parts_take_turns():
    parts = with_missing(
        [Part(A, (B,)), Part(A, (C,), index=1, counts_base=False)], NOTHING, PROTOCOL
    )
    found = cohorts_of(parts, NOTHING, PROTOCOL, "run")
    assert [one.cohort_id for one in found] == ["run/0/0", "run/1/0", "run/0/1", "run/1/1"]


def test_a_serial_cohort_alternates_its_two_launches():
    part = dataclasses.replace(Part(A, (B,)), resident="serial")
    [cohort, _] = cohorts_of(with_missing([part], NOTHING, PROTOCOL), NOTHING, PROTOCOL, "run")
    first, second, third, fourth = (one.case_id for one in cohort.launches)
    assert cohort.resident == "serial"
    assert (first, second) == (fourth, third)
    assert {first, second} == {A.case.case_id, B.case.case_id}


@pytest.mark.parametrize(("num_had", "look"), [(0, 1), (2, 1), (3, 2)])
def test_more_launches_than_were_planned_are_another_look(num_had, look):
    records = [
        record(one.case, index, result_key=one.result_key)
        for index in range(num_had)
        for one in (A, B)
    ]
    protocol = MeasuringProtocol(num_cohorts=5)
    history = History(records)
    parts = with_missing(parts_of([A, B], at_most(2), aa=False), history, protocol)
    cohorts = cohorts_of(parts, history, protocol, "run2")
    assert [one.look for one in cohorts] == [look] * (5 - num_had)
