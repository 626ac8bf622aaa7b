"""Tests that share an oracle run in one process."""

import pytest

from tests.groups import group_of


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("parity/test_faults.py::test_a[resnet50_train-pytorch-fp64-epsilon]", "resnet50_train"),
        ("parity/test_faults.py::test_b[pytorch-resnet50_train]", "resnet50_train"),
        ("parity/test_oracle.py::test_c[resnet50_train]", "resnet50_train"),
        ("parity/test_d.py::test_d[transformer_infer/decode-jax-fp64-x]", "transformer_infer"),
        ("parity/test_planted_faults.py::test_e", "parity"),
        ("end_to_end/test_serial.py::test_f[a]", "tests/end_to_end/test_serial.py"),
    ],
)
def test_a_test_of_parity_goes_with_its_workload_and_another_with_its_module(test, group):
    assert group_of(f"tests/{test}") == group
