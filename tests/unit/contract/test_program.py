"""What a workload's folder and a program offer."""

import numpy as np
import pytest

from benchmarks.contract.program import Reading


def test_a_reading_fetches_when_it_is_asked_and_not_before():
    fetched = []

    def fetch():
        fetched.append("a")
        return np.ones(2)

    reading = Reading({"a": fetch, "b": lambda: np.zeros(1)})
    assert ("a" in reading, "c" in reading) == (True, False)
    assert (list(reading), len(reading), fetched) == (["a", "b"], 2, [])
    np.testing.assert_array_equal(reading["a"], [1, 1])
    np.testing.assert_array_equal(dict(reading)["a"], [1, 1])
    assert fetched == ["a", "a"]


def test_a_name_that_was_not_read_is_a_key_error():
    with pytest.raises(KeyError):
        Reading({})["a"]
