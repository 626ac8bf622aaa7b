"""The latency of a cell: percentiles with intervals, bounds with enough requests, reasons else."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.analysis.latency import latency_of
from benchmarks.contract.record import Block
from benchmarks.documents.run import latency_fields
from tests.unit.analysis.records import case, record

ONE = case()


def launch(seed, *, num_rounds=8, median_s=0.02, flags=()):
    """A launch of 25 requests a round, about lognormal; every third round has these flags."""
    generator = np.random.default_rng(seed)
    blocks = []
    for index in range(num_rounds):
        request_ns = (median_s * 1e9 * np.exp(0.1 * generator.standard_normal(25))).astype(int)
        requests = tuple(map(int, request_ns))
        own = flags if index % 3 == 2 else ()
        blocks.append(Block(index, 0, 25, sum(requests), 1000, 0.01, own, requests))
    return dataclasses.replace(record(ONE, seed), blocks=tuple(blocks))


def keys_of(latency):
    """The keys of the document."""
    fields = latency_fields(latency)
    return {**fields.pop("percentiles"), **fields}


def test_percentiles_of_launches_have_an_interval():
    latency = latency_of([launch(seed) for seed in range(3)], [50, 90])
    assert latency.num_samples == 600
    for percentile, expected in ((50, 0.02), (90, 0.02 * np.exp(0.128))):
        found = latency.percentiles[percentile]
        assert found.low < found.estimate < found.high
        assert found.estimate == pytest.approx(expected, rel=0.05)
        assert found.num_launches == 3


def test_the_two_launches_of_a_serial_cohort_are_one_observation():
    launches = [
        dataclasses.replace(launch(seed), cohort_id=f"cohort{seed // 2}") for seed in range(6)
    ]
    found = latency_of(launches, [50]).percentiles[50]
    assert found.num_launches == 3
    assert found.low < found.estimate < found.high
    assert latency_of(launches[:2], [50]).percentiles[50].low is None


def test_one_launch_has_no_interval():
    found = latency_of([launch(0)], [50]).percentiles[50]
    assert (found.low, found.high, found.num_launches) == (None, None, 1)


def test_a_tail_is_pooled_and_is_a_bound():
    launches = [launch(seed, num_rounds=10) for seed in range(3)]
    latency = latency_of(launches, [50, 99])
    pooled = np.concatenate([one.request_seconds for one in launches])
    assert np.quantile(pooled, 0.99) < latency.bounds[99] <= pooled.max()
    document = keys_of(latency)
    assert document["latency_p99_ms"] == pytest.approx(1e3 * latency.bounds[99])
    assert document["latency_p99_is_bound"] is True


def test_too_few_requests_have_no_tail_and_the_reason():
    document = keys_of(latency_of([launch(seed) for seed in range(3)], [50, 90, 99]))
    assert document["latency_p99_ms"] is None
    assert document["latency_p99_is_bound"] is None
    assert document["latency_reasons"] == {"p99": "600 of the 662 samples that it needs"}
    assert document["latency_num_samples"] == 600
    json.dumps(document, allow_nan=False)


def test_a_launch_with_few_requests_has_no_p90():
    latency = latency_of([launch(0), launch(1, num_rounds=2)], [50, 90])
    assert 90 not in latency.percentiles
    assert latency.reasons[90] == "50 of the 64 samples that each launch needs"


def test_what_was_not_asked_for_says_so():
    reasons = keys_of(latency_of([launch(0)], [50]))["latency_reasons"]
    assert reasons["p90"] == reasons["p99"] == "not among protocol.percentiles"


def test_disturbed_rounds_do_not_count():
    disturbed = launch(0, num_rounds=9, flags=("FOREIGN_LOAD",))
    assert latency_of([disturbed], [50]).num_samples == 6 * 25


def test_training_has_no_latency():
    assert latency_of([record(ONE, 0)], [50]) is None
    assert latency_of([], [50]) is None
