import pytest

from benchmarks.contract.units import GIB, duration, in_gib


def test_bytes_are_told_in_gib():
    assert in_gib(1.5 * GIB) == "1.5 GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (89.6, "90 s"), (720, "12 min"), (5399, "1 h 30 min"), (12600, "3 h 30 min")],
)
def test_durations_are_told_in_the_unit_that_suits_them(seconds, text):
    assert duration(seconds) == text
