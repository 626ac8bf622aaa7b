"""Whatever is sent or stored is read back as it was."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.contract.case import Case, case_from_json
from benchmarks.contract.message import Message, decode, encode
from benchmarks.contract.record import Record, record_from_json
from tests.unit.strategies import of_type


def through_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


@given(case=of_type(Case))
def test_a_case_is_read_back(case):
    assert case_from_json(through_json(case.to_json())) == case


@given(record=of_type(Record))
def test_a_record_is_read_back(record):
    assert record_from_json(through_json(record.to_json())) == record


@pytest.mark.parametrize("kind", get_args(Message))
@given(data=st.data())
def test_a_message_is_read_back_with_its_time(kind, data):
    message = data.draw(of_type(kind))
    line = encode(message)
    assert line.count(b"\n") == 1
    received = decode(line)
    assert received == message
    assert received.sent_s == message.sent_s


@given(line=st.binary())
def test_a_line_that_is_no_message_is_refused_and_nothing_else_happens(line):
    with pytest.raises(ValueError, match="not a message"):
        decode(line)
