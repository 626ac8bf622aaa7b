"""The schemas that are committed are those of the dataclasses, and they refuse other shapes."""

import copy

import jsonschema
import pytest

from benchmarks.analysis.metrics import METRICS
from benchmarks.analysis.summary import summarise
from benchmarks.documents.encoding import to_json
from benchmarks.documents.run import document
from benchmarks.documents.schemas import DOCUMENTS, FOLDER, schema_of, schema_text
from tests.schemas import validated
from tests.unit.analysis.records import case, cohorts, plan


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_committed_schema_is_the_generated_one(name):
    hint = "regenerate: python -m benchmarks.documents.schemas"
    assert (FOLDER / f"{name}.json").read_text() == schema_text(name), hint
    jsonschema.Draft202012Validator.check_schema(schema_of(name))


def test_there_is_a_schema_for_each_document_and_no_other():
    assert {file.stem for file in FOLDER.glob("*.json")} == set(DOCUMENTS)
    assert len({schema_of(name)["title"] for name in DOCUMENTS}) == len(DOCUMENTS)


def test_every_number_of_every_metric_is_described():
    described = schema_of("run-1")["$defs"]["RunCell"]["properties"]
    for metric in METRICS:
        for number in metric.numbers:
            assert metric.meaning in described[number.key]["description"]


@pytest.fixture(scope="module")
def run():
    times = {case(): 0.2, case("jax"): 0.1}
    return to_json(document(summarise(plan(list(times)), cohorts(times), {})))


def drop_a_key(found):
    del found["cells"][0]["peak_memory_bytes"]


def add_a_key(found):
    found["ratios"][0]["speed"] = 2.0


def say_a_number_in_words(found):
    found["cells"][0]["items_per_s"] = "40"


def give_half_a_byte(found):
    found["cells"][0]["peak_memory_bytes"] = 0.5


def invent_a_verdict(found):
    found["ratios"][0]["verdict"] = "quicker"


def give_a_percentile_in_words(found):
    found["cells"][0]["latency_p95_ms"] = "fast"


def make_an_option_a_list(found):
    found["cells"][0]["sequence_length"] = [128]


@pytest.mark.parametrize(
    "change",
    [
        *(drop_a_key, add_a_key, say_a_number_in_words, give_half_a_byte, invent_a_verdict),
        *(give_a_percentile_in_words, make_an_option_a_list),
    ],
)
def test_another_shape_is_refused(run, change):
    validated(run)
    changed = copy.deepcopy(run)
    change(changed)
    with pytest.raises(jsonschema.ValidationError):
        validated(changed)


def test_options_and_further_percentiles_are_keys_of_their_own(run):
    changed = copy.deepcopy(run)
    changed["cells"][0].update(sequence_length=128, recompute="full", latency_p95_ms=2.5)
    validated(changed)
