from benchmarks.contract.units import GIB, in_gib


def test_bytes_are_told_in_gib():
    assert in_gib(1.5 * GIB) == "1.5 GiB"
