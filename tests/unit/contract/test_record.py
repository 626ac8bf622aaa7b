"""A record comes back as it was stored, and nothing damaged passes for one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.evidence import Evidence, FirstStep
from benchmarks.contract.record import SCHEMA_VERSION, Block, Record, record_from_json

RECORD = Record(
    run_id="r",
    cohort_id="r/0/0",
    launch_id="r-0-0-0",
    case=Case(Work("w", 1, "tiny", 8), Way("pytorch", "eager", "fp32"), Place("cpu")),
    replica=0,
    result_key="k",
    protocol_name="quick",
    protocol_version=1,
    status="ok",
    reason=None,
    phase=None,
    started_at="2026-11-21T09:00:00+00:00",
    unit="image",
    items_per_step=8,
    flop_per_step=10,
    blocks=(
        Block(0, 0, 2, 2_000_000_000, 10),
        Block(1, 1, 2, 9_000_000_000, 10, 0.4, ("FOREIGN_LOAD",)),
    ),
    evidence=Evidence(step1=FirstStep(loss=6.9)),
)


def as_json(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(RECORD.to_json())), **changes}


def test_json_gives_the_record_back() -> None:
    assert record_from_json(as_json()) == RECORD


def test_step_seconds_leave_out_invalid_blocks() -> None:
    assert RECORD.step_seconds == [1.0]


def test_step_seconds_keep_all_where_most_are_invalid() -> None:
    every = [dataclasses.replace(block, flags=("SWAP",)) for block in RECORD.blocks]
    assert dataclasses.replace(RECORD, blocks=tuple(every)).step_seconds == [1.0, 4.5]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "newer"),
        ({"schema_version": "1"}, "schema_version"),
        ({"surplus": 1}, "surplus"),
        ({"status": "fine"}, "status"),
        ({"sequence": 0}, "sequence=0: expected an integer of 1 or more"),
        ({"sequence": "7"}, "sequence='7'"),
        ({"look": 0}, "look=0: expected an integer of 1 or more"),
        ({"resident": "apart"}, "expected one of together, serial"),
        ({"phases_s": {"build": float("inf")}}, "finite"),
        ({"evidence": {"loss": [float("nan")]}}, "finite"),
        ({"case": {"work": {}}}, "not a record"),
        ({"blocks": [dataclasses.asdict(Block(0, 0, 0, 1, 0))]}, "block"),
        ({"blocks": [{**dataclasses.asdict(Block(0, 0, 1, 1, 0)), "duration_ns": 1.5}]}, "integer"),
        ({"blocks": [{**dataclasses.asdict(Block(0, 0, 1, 1, 0)), "round": True}]}, "integer"),
    ],
)
def test_refuses_what_is_no_record(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        record_from_json(as_json(**changes))


@pytest.mark.parametrize("name", ["status", "resident"])
def test_refuses_a_record_with_a_field_missing(name: str) -> None:
    damaged = as_json()
    del damaged[name]
    with pytest.raises(ValueError, match=name):
        record_from_json(damaged)


REQUESTS = Block(0, 0, 3, 60, 1, request_ns=(10, 20, 30))


def test_requests_come_back_one_by_one() -> None:
    record = dataclasses.replace(RECORD, blocks=(REQUESTS, RECORD.blocks[1]))
    assert record_from_json(json.loads(json.dumps(record.to_json()))) == record
    assert record.request_seconds == [1e-8, 2e-8, 3e-8]
    assert RECORD.request_seconds == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"request_ns": [10, 20]}, "2 requests in 30 ns for 3 in 60 ns"),
        ({"request_ns": [10, 20, 31]}, "3 requests in 61 ns"),
        ({"request_ns": [10, 20, 30.0]}, "integers above 0"),
        ({"request_ns": [60, 1, -1]}, "integers above 0"),
    ],
)
def test_requests_that_do_not_make_up_their_block_are_refused(
    changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        record_from_json(as_json(blocks=[{**dataclasses.asdict(REQUESTS), **changes}]))


SAMPLES = Block(0, 0, 6, 60, 1, sample_ns=(10, 20, 30))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sample_ns": [10, 20, 31]}, "3 samples in 61 ns for 6 steps in 60 ns"),
        ({"sample_ns": [10, 20, 20, 10]}, "4 samples in 60 ns for 6 steps"),
        ({"sample_ns": [60, 1, -1]}, "block.sample_ns: expected integers above 0"),
        ({"probe_ns": [0]}, "block.probe_ns: expected integers above 0"),
        ({"disturbed_samples": [3]}, "expected some of its 3 samples"),
        ({"disturbed_samples": [0, 1, 2]}, "expected some of its 3 samples"),
    ],
)
def test_samples_that_do_not_make_up_their_block_are_refused(
    changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        record_from_json(as_json(blocks=[{**dataclasses.asdict(SAMPLES), **changes}]))


def test_each_sample_is_seconds_per_step() -> None:
    assert SAMPLES.samples_s == [5e-9, 1e-8, 1.5e-8]
    assert REQUESTS.samples_s == [1e-8, 2e-8, 3e-8]
    assert Block(0, 0, 4, 60, 1).samples_s == [1.5e-8]


def test_a_turn_counts_without_the_samples_that_others_disturbed() -> None:
    spoilt = dataclasses.replace(SAMPLES, disturbed_samples=(2,))
    assert spoilt.samples_s == [5e-9, 1e-8]
    assert spoilt.step_s == pytest.approx(7.5e-9)
    assert (spoilt.is_disturbed, spoilt.is_calm, SAMPLES.is_calm) == (False, False, True)
    record = dataclasses.replace(RECORD, blocks=(spoilt,))
    assert record.sample_seconds == [5e-9, 1e-8]
    assert record.step_seconds == [pytest.approx(7.5e-9)]
    assert record_from_json(as_json(blocks=[dataclasses.asdict(spoilt)])).blocks == (spoilt,)
    requests = dataclasses.replace(REQUESTS, disturbed_samples=(0,))
    assert dataclasses.replace(RECORD, blocks=(requests,)).request_seconds == [2e-8, 3e-8]


def test_of_a_turn_that_was_taken_again_the_last_block_counts() -> None:
    spoilt = dataclasses.replace(SAMPLES, flags=("FOREIGN_LOAD",))
    other = dataclasses.replace(SAMPLES, round=1)
    record = dataclasses.replace(RECORD, blocks=(spoilt, SAMPLES, other, spoilt))
    assert record.turns == [spoilt, other]
    assert dataclasses.replace(RECORD, blocks=(spoilt, SAMPLES, other)).turns == [SAMPLES, other]


OLD_RECORDS = Path(__file__).parent / "old_records"
"""Written by the last commit of schemas 1 and 2, and by the first and the last of schema 3."""


def old_record(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((OLD_RECORDS / f"{name}.json").read_text())
    return data


@pytest.mark.parametrize(
    ("name", "num_products", "first_step"),
    [
        ("schema_1", 1, FirstStep(6.9, 2.5, 0.1, 3.5, 161, 0)),
        ("schema_2", 1, FirstStep(6.9, 2.5, 0.1, 3.5, 161, 0)),
        ("schema_3_first", 1, FirstStep(6.9, answer_norm=12.5, num_logits=4000)),
        ("schema_3_last", 2, FirstStep(6.9, answer_norm=12.5, num_logits=4000)),
    ],
)
def test_reads_the_records_of_older_schemas(
    name: str, num_products: int, first_step: FirstStep
) -> None:
    record = record_from_json(old_record(name))
    evidence = record.evidence
    is_inference = name.startswith("schema_3")
    assert record.resident == "together"
    assert record.step_seconds == [1e-6, 1.01e-6]
    assert len(record.request_seconds) == (4 if is_inference else 0)
    assert evidence.fence is not None
    assert evidence.fence.num_products == num_products
    assert evidence.step1 == first_step
    assert evidence.effective is not None
    assert evidence.effective.integer_products == ((53, 54) if is_inference else None)
    assert evidence.parity is not None
    assert [check.passes for check in evidence.parity.checks] == [True, True]
    again = json.loads(json.dumps(record.to_json()))
    assert record_from_json(again) == record


def test_defaults_of_older_schemas_hold_for_no_record_of_today() -> None:
    old = old_record("schema_3_first")
    with pytest.raises(ValueError, match="num_products"):
        record_from_json({**old, "schema_version": SCHEMA_VERSION, "sequence": None, "look": 1})


def test_refuses_an_old_record_whose_batch_counted_one_of_several_devices() -> None:
    old = old_record("schema_1")
    old["case"]["place"]["num_devices"] = 2
    with pytest.raises(ValueError, match=r"run 20261122-0900-schema1: the batch size .* 2 devices"):
        record_from_json(old)
