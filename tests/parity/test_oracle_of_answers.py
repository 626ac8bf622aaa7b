"""The answers that two frameworks agree on are what the mathematics, written out plainly, gives."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.contract.case import Work
from benchmarks.planning.catalog import discover
from benchmarks.worker import oracle_files
from tests.parity import parity_cli
from tests.parity.proofs import Key
from tests.parity.test_oracle import REFERENCES as TRAINED

LIMIT = 1e-9
SPECS = discover().specs()


def resnet50(work, weights, batch):
    """The logits of its one request, RBV."""
    from workloads.resnet50 import inference_spec as spec
    from workloads.resnet50 import network as layers
    from workloads.resnet50 import reference

    full = reference.Forward(spec.HYPERPARAMETERS["batch_norm_epsilon"])
    return full.logits(layers.network(spec.SIZES[work.size]), weights, batch["images"])[None]


def transformer(work, weights, batch):
    """A full re-computation of every position, without a cache."""
    return SPECS["transformer_infer"].task.recompute(work, weights, batch)


REFERENCES = {"resnet50_infer": resnet50, "transformer_infer": transformer}


def test_every_workload_has_a_reference():
    assert set(REFERENCES) | set(TRAINED) == set(SPECS) == set(parity_cli.BATCH_SIZES)


@pytest.mark.parametrize("workload", REFERENCES)
def test_the_oracles_answers_are_the_references(workload, proofs):
    spec = SPECS[workload]
    cells = proofs.cells(Key(workload, "pytorch", "eager", "fp64"))
    assert cells
    for cell in cells:
        answers = oracle_files.load_answers(proofs.oracle(workload, cell.get("phase")))
        options = tuple((name, cell[name]) for name in spec.options)
        work = Work(workload, spec.version, "tiny", cell["batch_size"], options)
        weights = dict(spec.weights(work))
        assert len(answers) >= 4
        for name, logits in answers.items():
            batch = spec.batch(work, int(name.removeprefix("batch")))
            if spec.task.per_batch(work) == 1 or "forced" in batch:
                right = REFERENCES[workload](work, weights, batch)
                error = np.linalg.norm(logits - right) / np.linalg.norm(right)
                assert error <= LIMIT, name
