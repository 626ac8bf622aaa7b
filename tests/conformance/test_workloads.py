"""Every workload that there is meets one contract: found in the catalog, not listed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.contract.case import Work
from benchmarks.equivalence.checks import gradient_block
from benchmarks.planning.catalog import discover

SPECS = {name: entry.spec for name, entry in discover().workloads.items()}


@pytest.mark.parametrize("name", SPECS)
def test_gradients_are_taken_element_by_element(name):
    """The proofs take them block by block."""
    spec = SPECS[name]
    initial = dict(spec.weights(Work(name, spec.version, size="tiny", batch_size=2)))
    generator = np.random.default_rng(0)
    states = {f"optimizer/{key}": generator.normal(size=a.shape) for key, a in initial.items()}
    whole = dict(spec.gradients(initial, states))
    assert whole
    for key, gradient in whole.items():
        weight, state = initial[key].reshape(-1), states[f"optimizer/{key}"].reshape(-1)
        middle = slice(weight.size // 3, weight.size)
        part = gradient_block(spec, key, weight=weight[middle], state=state[middle])
        np.testing.assert_array_equal(part, gradient.reshape(-1)[middle])
