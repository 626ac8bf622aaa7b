"""What libraries cost: a second comparison, with the framework that they compute with."""

import dataclasses

import pytest

from benchmarks.analysis.summary import summarise
from benchmarks.contract.evidence import NOT_COMPARABLE, ParityVerdict
from benchmarks.documents.encoding import to_json
from benchmarks.documents.run import document
from tests.unit.analysis.records import case, cohorts, plan, record
from workloads.resnet50.training_spec import SPECS

TORCH, JAX = case(), case("jax", "compiled")


def library(name, base=JAX):
    way = dataclasses.replace(base.way, framework=name, base=base.way.framework)
    return dataclasses.replace(base, way=way)


EQUINOX = library("equinox")
TIMES = {TORCH: 0.2, JAX: 0.1, EQUINOX: 0.125}


def summary_of(records, cases):
    return summarise(plan(cases), records, SPECS)


def test_a_library_is_compared_with_its_groups_base_and_with_its_own():
    summary = summary_of(cohorts(TIMES, wobble=0.001), list(TIMES))
    assert {(one.case, one.base) for one in summary.ratios} == {
        (JAX.case_id, TORCH.case_id),
        (EQUINOX.case_id, TORCH.case_id),
    }
    [cost] = summary.costs
    assert (cost.case, cost.base, cost.verdict) == (EQUINOX.case_id, JAX.case_id, "slower")
    assert cost.ratio.ratio == pytest.approx(0.8, rel=0.01)
    found = to_json(document(summary))
    assert [one["base"] for one in found["ratios"]] == [TORCH.case_id] * 2
    assert [(one["case"], one["base"]) for one in found["costs"]] == [
        (EQUINOX.case_id, JAX.case_id)
    ]
    assert [one["base"] for one in found["cells"]] == [None, None, "jax"]


def test_the_grade_stays_that_of_the_comparison_with_the_groups_base():
    steady = cohorts({TORCH: 0.2, JAX: 0.1}, wobble=0.05)
    both = [record(EQUINOX, int(one.cohort_id[-1]), [0.125] * 8) for one in steady[::2]]
    with_library = summary_of([*steady, *both], [TORCH, JAX, EQUINOX])
    alone = summary_of([*steady, *both], [TORCH, EQUINOX])
    assert with_library.cells[2].grade == alone.cells[1].grade


def test_a_library_whose_base_is_the_groups_has_one_comparison():
    summary = summary_of(cohorts({JAX: 0.1, EQUINOX: 0.125}), [JAX, EQUINOX])
    assert [(one.case, one.base) for one in summary.ratios] == [(EQUINOX.case_id, JAX.case_id)]
    assert summary.costs == ()


def test_a_library_without_what_it_computes_with_has_no_cost():
    assert summary_of(cohorts({TORCH: 0.2, EQUINOX: 0.125}), [TORCH, EQUINOX]).costs == ()


def test_only_cohorts_that_both_took_part_in_count():
    apart = [record(EQUINOX, 7, [9.0] * 8), record(JAX, 8, [9.0] * 8)]
    [cost] = summary_of([*cohorts(TIMES), *apart], list(TIMES)).costs
    assert cost.ratio.num_launches == 3
    assert cost.ratio.ratio == pytest.approx(0.8, rel=0.03)


def test_libraries_on_one_framework_are_adjusted_together_and_not_with_the_groups_others():
    libraries = [library(f"library{i}") for i in range(12)]
    others = [case(f"framework{i}", "compiled") for i in range(12)]

    def verdict_of(*cases):
        records = [
            record(one, c, [step_s] * 8)
            for c, factor in enumerate((1.032, 1.044, 1.035, 1.041))
            for one, step_s in [(JAX, 0.2), *((other, 0.2 * factor) for other in cases)]
        ]
        records += [record(TORCH, c, [0.2 * (1 + c / 100)] * 8) for c in range(4)]
        costs = summary_of(records, [TORCH, JAX, *cases]).costs
        return next(one.verdict for one in costs if one.case == libraries[0].case_id)

    assert verdict_of(libraries[0]) == "slower"
    assert verdict_of(libraries[0], *others) == "slower"
    assert verdict_of(*libraries) == "cant_tell"


REASON = "batch statistics are those of the running average"


def differing(records, *cases):
    """The records; those of these cases say that their mathematics is another."""
    parity = ParityVerdict(NOT_COMPARABLE, reason=REASON)
    return [
        dataclasses.replace(one, evidence=dataclasses.replace(one.evidence, parity=parity))
        if one.case in cases
        else one
        for one in records
    ]


def test_other_mathematics_are_not_comparable_with_anything():
    summary = summary_of(differing(cohorts(TIMES), EQUINOX), list(TIMES))
    every = {(one.case, one.base): one for one in (*summary.ratios, *summary.costs)}
    for base in (TORCH, JAX):
        one = every[EQUINOX.case_id, base.case_id]
        assert (one.verdict, one.ratio, one.effort) == ("not_comparable", None, None)
    assert every[JAX.case_id, TORCH.case_id].verdict == "faster"
    assert not summary.has_failures
    cell = summary.cells[2]
    assert (cell.status, cell.parity.status, cell.parity.reason) == ("ok", NOT_COMPARABLE, REASON)
    assert cell.mfu_roof is None


def test_other_mathematics_do_not_change_the_verdicts_of_others():
    others = [case(f"other{i}", "compiled") for i in range(3)]

    def verdict_of_jax(cases, differ):
        records = [
            record(one, c, [step_s] * 8)
            for c, factor in enumerate((0.83, 0.88, 0.855))
            for one, step_s in [
                (TORCH, 0.2),
                (JAX, 0.2 * factor),
                *((other, 0.2 * (1 + (c + i) % 3 / 10)) for i, other in enumerate(cases)),
            ]
        ]
        summary = summary_of(differing(records, *differ), [TORCH, JAX, *cases])
        return next(one.verdict for one in summary.ratios if one.case == JAX.case_id)

    assert verdict_of_jax([], []) == "faster"
    assert verdict_of_jax(others, []) == "cant_tell"
    assert verdict_of_jax(others, others) == "faster"


def test_other_mathematics_are_graded_by_their_own_interval():
    steps = {TORCH: (0.2, 0.3, 0.25), EQUINOX: (0.125, 0.125, 0.125)}
    records = [
        record(one, c, [step_s] * 8)
        for one, every in steps.items()
        for c, step_s in enumerate(every)
    ]
    compared = summary_of(records, [TORCH, EQUINOX]).cells[1]
    alone = summary_of(differing(records, EQUINOX), [TORCH, EQUINOX]).cells[1]
    assert (compared.grade, alone.grade) == ("F", "B")
