"""What a launch has shown: read back as it was, and in the shapes of older records."""

import dataclasses
import json

import pytest

from benchmarks.contract.evidence import (
    FAIL,
    Check,
    Evidence,
    FenceReport,
    ParityVerdict,
    evidence_from_json,
    verdict_from_json,
)
from benchmarks.contract.program import Effective

FENCE = FenceReport(2e-6, 1024, 3, 1.97, 0.0, 2e11, None)


def as_json(evidence):
    return json.loads(json.dumps(dataclasses.asdict(evidence)))


@pytest.mark.parametrize(
    ("error", "tolerance", "passes"),
    [
        (1e-4, 1e-4, True),
        (1.1e-4, 1e-4, False),
        (None, 1e-4, False),  # not finite
        (9.0, None, True),  # shown and not judged
        (None, None, True),
    ],
)
def test_a_check_passes_up_to_its_tolerance(error, tolerance, passes):
    assert Check("loss", error, tolerance).passes is passes


def test_a_verdict_is_read_back():
    checks = (Check("loss", None, 1e-4), Check("weights", 0.5, 0.1, "weights/stem"))
    verdict = ParityVerdict(FAIL, checks, "off", "weights/stem", ("no momentum", "no decay"), "abc")
    assert verdict_from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(ValueError, match=r"unknown fields \['surplus'\]"):
        evidence_from_json({"surplus": 1})


def test_what_is_missing_in_a_fence_of_today_is_refused():
    data = as_json(Evidence(fence=FENCE))
    del data["fence"]["num_products"]
    with pytest.raises(TypeError, match="num_products"):
        evidence_from_json(data)
    old = evidence_from_json(data, before_schema_4=True)
    assert old.fence == dataclasses.replace(FENCE, num_products=1)


def test_a_fence_before_schema_4_keeps_its_number_of_products():
    data = as_json(Evidence(fence=FENCE))
    assert evidence_from_json(data, before_schema_4=True).fence == FENCE


@pytest.mark.parametrize("integers", ["53 of 54 convolutions", "53 of 54", [53, 54]])
def test_integer_products_of_older_records_are_two_counts(integers):
    data = as_json(Evidence(effective=Effective("int8", "int8", None)))
    data["effective"]["integer_products"] = integers
    found = evidence_from_json(data, before_schema_4=True).effective
    assert found == Effective("int8", "int8", None, integer_products=(53, 54))


def test_a_failure_of_the_inspection_had_its_place_among_the_settings():
    found = evidence_from_json({"effective": {"failure": "KeyError"}}, before_schema_4=True)
    assert found == Evidence(inspection_failure="KeyError")
