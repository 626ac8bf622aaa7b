"""Recipes: equal ones are compared, and a tuned case with the same case idiomatic."""

import dataclasses

import pytest

from benchmarks.analysis.summary import summarise
from benchmarks.contract.case import RECIPE
from benchmarks.contract.evidence import FAIL, INHERITED, Evidence, FirstStep, ParityVerdict
from benchmarks.contract.plan import Cell
from benchmarks.documents.encoding import to_json
from benchmarks.documents.run import document
from tests.unit.analysis.records import case, cohorts, failed, key_of, plan, record
from workloads.resnet50.training_spec import SPECS


def with_recipe(one, recipe):
    return dataclasses.replace(one, way=dataclasses.replace(one.way, options=((RECIPE, recipe),)))


def launch(one, *args, **changes):
    """A record; its launch is named by its recipe too, as every launch has a name of its own."""
    found = record(one, *args, **changes)
    return dataclasses.replace(found, launch_id=f"{found.launch_id}-{one.way.recipe}")


TORCH, JAX = (with_recipe(one, "idiomatic") for one in (case(), case("jax", "compiled")))
TUNED_TORCH, TUNED_JAX = (with_recipe(one, "tuned") for one in (TORCH, JAX))
TIMES = {TORCH: 0.2, JAX: 0.4, TUNED_TORCH: 0.16, TUNED_JAX: 0.1}


def launches(times, **options):
    return [
        dataclasses.replace(one, launch_id=f"{one.launch_id}-{one.case.way.recipe}")
        for one in cohorts(times, **{"wobble": 0.001, **options})
    ]


def summary_of(records, cases, **changes):
    return summarise(plan(cases, **changes), records, SPECS)


def compared(ratios):
    return {(one.case, one.base): one for one in ratios}


def test_equal_recipes_are_compared():
    found = compared(summary_of(launches(TIMES), list(TIMES)).ratios)
    assert set(found) == {
        (JAX.case_id, TORCH.case_id),
        (TUNED_JAX.case_id, TUNED_TORCH.case_id),
    }
    assert found[JAX.case_id, TORCH.case_id].verdict == "slower"
    assert found[TUNED_JAX.case_id, TUNED_TORCH.case_id].ratio.ratio == pytest.approx(1.6, rel=0.01)


def test_the_gain_of_tuning_is_a_ratio_of_its_own():
    summary = summary_of(launches(TIMES), list(TIMES))
    gains = compared(summary.gains)
    assert set(gains) == {
        (TUNED_TORCH.case_id, TORCH.case_id),
        (TUNED_JAX.case_id, JAX.case_id),
    }
    gain = gains[TUNED_JAX.case_id, JAX.case_id]
    assert (gain.verdict, gain.ratio.ratio) == ("faster", pytest.approx(4.0, rel=0.01))
    assert summary.costs == ()


def test_a_plan_with_a_base_of_another_recipe_gives_no_verdict():
    """The planted mistake: tuned JAX against idiomatic PyTorch, as in the headline of old."""
    wrong = dict.fromkeys((one.case_id for one in TIMES), TORCH.case_id)
    summary = summary_of(launches(TIMES), list(TIMES), bases=wrong)
    assert set(compared(summary.ratios)) == {
        (JAX.case_id, TORCH.case_id),
        (TUNED_TORCH.case_id, TORCH.case_id),  # its own idiomatic case: the gain of tuning
    }
    assert set(compared(summary.gains)) == {(TUNED_JAX.case_id, JAX.case_id)}


def test_a_tuned_case_without_another_one_has_no_ratio_but_its_gain():
    times = {one: TIMES[one] for one in (TORCH, JAX, TUNED_JAX)}
    summary = summary_of(launches(times), list(times))
    assert {one.case for one in summary.ratios} == {JAX.case_id}
    assert [one.case for one in summary.gains] == [TUNED_JAX.case_id]
    assert summary.cells[2].grade == "B"


def test_the_verdict_of_an_idiomatic_case_does_not_depend_on_how_many_are_tuned():
    """Their p-values are adjusted for the comparisons with one base (Holm)."""
    others = [with_recipe(case(f"other{i}", "compiled"), "tuned") for i in range(12)]

    def verdict_of_jax(*cases):
        records = [
            launch(one, c, [step_s] * 8)
            for c, factor in enumerate((1.035, 1.06, 1.04, 1.06))
            for one, step_s in [(TORCH, 0.2), *((o, 0.2 * factor) for o in (JAX, *cases))]
        ]
        ratios = summary_of(records, [TORCH, JAX, *cases]).ratios
        return next(one.verdict for one in ratios if one.case == JAX.case_id)

    assert (verdict_of_jax(), verdict_of_jax(*others)) == ("slower", "slower")
    idiomatic = [with_recipe(one, "idiomatic") for one in others]
    assert verdict_of_jax(*idiomatic) == "cant_tell"


def test_a_failed_idiomatic_case_leaves_no_gain():
    times = {TORCH: 0.2, JAX: 0.4, TUNED_JAX: 0.1}
    summary = summary_of([*launches(times), failed(JAX, 7)], list(times))
    assert summary.gains == ()


def test_the_document_has_the_recipe_the_gains_and_what_was_rewritten():
    rewritten = Cell(TUNED_JAX, "run", result_key=key_of(TUNED_JAX), rewrites="the stem")
    bases = {**{one.case_id: TORCH.case_id for one in (TORCH, JAX)}}
    summary = summary_of(launches(TIMES), [TORCH, JAX], skipped=[rewritten], bases=bases)
    found = to_json(document(summary))
    assert [one["recipe"] for one in found["cells"]] == ["idiomatic", "idiomatic", "tuned"]
    assert [one["rewrites"] for one in found["cells"]] == [None, None, "the stem"]
    [gain] = found["gains"]
    assert (gain["case"], gain["base"], gain["verdict"]) == (
        *(TUNED_JAX.case_id, JAX.case_id, "faster"),
    )


@pytest.mark.parametrize(("loss", "status"), [(7.0, INHERITED), (7.5, FAIL)])
def test_a_tuned_case_that_is_its_own_base_must_agree_with_the_same_case_idiomatic(loss, status):
    inherited = ParityVerdict(INHERITED, reason="proven at small")
    records = [
        dataclasses.replace(
            one,
            evidence=Evidence(
                step1=FirstStep(loss=loss if one.case == TUNED_JAX else 7.0, gradient_norm=3.0),
                parity=inherited,
            ),
        )
        for one in launches({JAX: 0.4, TUNED_JAX: 0.1})
    ]
    summary = summary_of(records, [JAX, TUNED_JAX])
    assert [one.parity.status for one in summary.cells] == [INHERITED, status]
