"""What makes results comparable: their keys are equal for nothing less."""

import dataclasses

import pytest

from benchmarks.contract.case import RECIPE, RECIPES, Case, Place, Way, Work
from benchmarks.contract.device import DeviceRules
from benchmarks.contract.plan import Interpreter
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.task import Inference, Training
from benchmarks.planning import identity

CASE = Case(Work("toy", 1, "tiny", 4), Way("alpha", "eager", "fp32"), Place("cpu"))
OWN, EXPORTER = (Interpreter("/p", {name: "1.0"}, {"cpu": 1}) for name in ("alpha", "gamma"))
ANSWERING = Inference(per_batch=lambda work: 1, answer_error=lambda answer, read: 0.0)


def result_key(case=CASE, *, interpreters=(OWN, EXPORTER), rules=None, task=None, **protocol):
    conditions = identity.Conditions(MeasuringProtocol(**protocol), "machine", 2)
    return identity.result_key(
        case,
        "code",
        interpreters=interpreters,
        rules=rules or DeviceRules(),
        conditions=conditions,
        task=task or Training(),
    )


def proof_key(case=CASE, *, interpreters=(OWN, EXPORTER), code="code"):
    return identity.proof_key(
        case, code, interpreters=interpreters, machine_key="machine", num_threads=2
    )


def test_precisions_weights_and_code_have_proofs_and_exports_of_their_own():
    cases = [
        CASE,
        dataclasses.replace(CASE, way=dataclasses.replace(CASE.way, precision="int8")),
        dataclasses.replace(CASE, work=dataclasses.replace(CASE.work, seed=1)),
        dataclasses.replace(CASE, work=dataclasses.replace(CASE.work, size="small")),
    ]
    assert len({*map(proof_key, cases), proof_key(code="other code")}) == 5


@pytest.mark.parametrize("key", [result_key, proof_key])
def test_another_version_of_an_exporter_makes_other_results(key):
    newer = dataclasses.replace(EXPORTER, versions={"gamma": "1.1"})
    keys = {key(interpreters=found) for found in ((OWN, EXPORTER), (OWN, newer), (OWN,))}
    assert len(keys) == 3


@pytest.mark.parametrize("key", [result_key, proof_key])
def test_where_an_interpreter_lies_and_what_it_sees_makes_no_others(key):
    moved = Interpreter("/elsewhere", {"gamma": "1.0"}, {"cpu": 1, "cuda": 2})
    assert key(interpreters=(OWN, moved)) == key()


def test_a_plan_hands_over_the_exporters_of_a_model(world):
    def keys():
        return [cell.result_key for cell in world.plan("framework=alpha,beta").cells]

    world.exported_from["alpha"] = {"gamma": "lab.export"}
    before = keys()
    world.interpreters["gamma"] = world.installed("gamma", "1.1")
    after = keys()
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_settings_of_requests_make_other_results_of_requests_alone():
    def keys(task):
        return {result_key(task=task, requests_per_turn=number) for number in (10, 20)}

    assert (len(keys(Training())), len(keys(ANSWERING))) == (1, 2)


def test_a_datasheets_peak_makes_no_other_results_and_the_other_rules_do():
    peak = DeviceRules(peak_flop_per_s={"a device": {"fp32": 1.0}})
    assert result_key(rules=peak) == result_key()
    assert result_key(rules=DeviceRules(min_steps_per_sample=5)) != result_key()


@pytest.mark.parametrize("changes", [{"base": "jax"}, {"framework": "beta"}])
def test_a_library_is_told_from_a_framework(changes):
    other = dataclasses.replace(CASE, way=dataclasses.replace(CASE.way, **changes))
    assert result_key(other) != result_key()


@pytest.mark.parametrize("key", [result_key, proof_key])
def test_a_result_from_before_recipes_is_neither_idiomatic_nor_tuned(key):
    ways = [dataclasses.replace(CASE.way, options=((RECIPE, recipe),)) for recipe in RECIPES]
    cases = [CASE, *(dataclasses.replace(CASE, way=way) for way in ways)]
    assert len({key(case) for case in cases}) == 3


def test_the_order_of_a_cohort_is_the_same_again():
    first, again, other = (
        identity.cohort_seed(MeasuringProtocol(seed=seed), "group", 0) for seed in (1, 1, 2)
    )
    assert first == again != other
