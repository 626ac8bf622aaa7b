"""The oracle that two frameworks agree on is what the mathematics, written out plainly, gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.worker import oracle_files
from tests.parity import parity_cli, resnet50_reference, transformer_reference
from workloads.transformer.training_spec import SPECS

LIMIT = 1e-9
REFERENCES = {
    "resnet50_train": ("tests.parity.resnet50_reference",),
    "transformer_finetune": ("tests.parity.transformer_reference", "transformer_finetune"),
    "transformer_lora": ("tests.parity.transformer_reference", "transformer_lora"),
}
"""The module and the arguments that come before the folder."""


@pytest.fixture(scope="module", params=REFERENCES)
def workload(request):
    """Each workload that has a reference."""
    return request.param


@pytest.fixture(scope="module")
def known(workload, proofs):
    """The oracle of the tiny network, as the command has it computed."""
    folder = proofs.oracle(workload)
    return oracle_files.load(folder, identity=folder.name)


@pytest.fixture(scope="module")
def reference(workload, tmp_path_factory):
    """The same from the reference, in a process of its own."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run(
        [sys.executable, "-m", *REFERENCES[workload], str(folder)],
        cwd=parity_cli.ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=600,
    )
    arrays = {}
    for file in folder.glob("*.npz"):
        with np.load(file) as loaded:
            arrays[file.stem] = dict(loaded)
    return arrays, json.loads((folder / "numbers.json").read_text())


def error(own, right):
    return np.linalg.norm(own - right) / np.linalg.norm(right)


def test_the_first_step_is_the_references(known, reference):
    step = reference[0]["step1"]
    assert set(known.step1) == set(step)
    for name, right in step.items():
        assert error(known.step1[name], right) <= LIMIT, name


def test_the_loss_on_another_batch_is_the_references(known, reference):
    assert known.other_loss == pytest.approx(reference[1]["other_loss"], rel=LIMIT)


def test_ten_steps_are_the_references(known, reference):
    arrays, numbers = reference
    assert known.losses == pytest.approx(numbers["losses"], rel=LIMIT)
    assert len(known.losses) == 10
    for found, followed in (
        (known.followed, arrays["followed"]),
        (known.followed_second, arrays.get("followed_second", {})),
    ):
        assert set(found) == set(followed)
        for name, right in followed.items():
            assert error(found[name], right) <= LIMIT, name


def test_the_work_of_the_references_is_the_tests():
    works = [
        resnet50_reference.WORK,
        *map(transformer_reference.work_of, ("transformer_finetune", "transformer_lora")),
    ]
    assert {work.workload for work in works} == set(REFERENCES)
    for work in works:
        assert work.batch_size == parity_cli.BATCH_SIZES[work.workload]
    assert {work.size for work in works} == {"tiny"}
    assert dict(works[1].options) == SPECS["transformer_finetune"].size_options["tiny"]
