"""The oracle that two frameworks agree on is what the mathematics, written out plainly, gives."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import parity_cli
import pytest

from benchmarks.measuring import oracle
from tests.parity.resnet50_reference import WORK

LIMIT = 1e-9


@pytest.fixture(scope="module")
def known(cache):
    """The oracle of the tiny network, as the command has it computed."""
    (cell,) = parity_cli.cells_of(
        "framework=pytorch", "precision=fp64", "execution=eager", cache=cache
    )
    assert cell["status"] == "pass"
    identity = cell["oracle"]["content"]
    return oracle.load(cache / "oracle" / identity, identity=identity)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The same from the reference, in a process of its own."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run(
        [sys.executable, "-m", "tests.parity.resnet50_reference", str(folder)],
        cwd=parity_cli.ROOT,
        check=True,
        timeout=600,
    )
    with np.load(folder / "step1.npz") as step, np.load(folder / "followed.npz") as followed:
        numbers = json.loads((folder / "numbers.json").read_text())
        return dict(step), dict(followed), numbers


def error(own, right):
    return np.linalg.norm(own - right) / np.linalg.norm(right)


def test_the_first_step_is_the_references(known, reference):
    step, _, _ = reference
    assert set(known.step1) == set(step)
    for name, right in step.items():
        assert error(known.step1[name], right) <= LIMIT, name


def test_the_loss_on_another_batch_is_the_references(known, reference):
    assert known.other_loss == pytest.approx(reference[2]["other_loss"], rel=LIMIT)


def test_ten_steps_are_the_references(known, reference):
    _, followed, numbers = reference
    assert known.losses == pytest.approx(numbers["losses"], rel=LIMIT)
    assert len(known.losses) == 10
    assert set(known.followed) == set(followed)
    for name, right in followed.items():
        assert error(known.followed[name], right) <= LIMIT, name


def test_the_work_of_the_reference_is_the_tests(known):
    assert WORK.size == "tiny"
    assert f"batch_size={WORK.batch_size}" in parity_cli.TINY
