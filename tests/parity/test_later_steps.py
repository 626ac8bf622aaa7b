"""Launches of clean code raise no alarm, with whatever weights, batches and draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.planning.catalog import discover
from tests.parity.fault_process import FaultProcess, Group

EXECUTIONS = {
    "pytorch": "eager",
    "jax": "compiled",
    "tensorflow": "graph",
    "keras_torch": "eager",
    "keras_jax": "compiled",
    "keras_tensorflow": "graph",
    "mlx": "compiled",
    "onnxruntime": "graph",
    "openvino": "graph",
    "litert": "graph",
}
"""Every framework, each in the execution that most use."""
SEEDS, MAX_TRIES = 20, 5
PHASES = {"transformer_infer": "decode"}
CATALOG = discover()
GROUPS = [
    Group(workload, framework, precision)
    for workload, framework in sorted(CATALOG.implementations)
    for precision in ("fp32", "bf16")
    if precision in CATALOG.frameworks[framework].capabilities.precisions["cpu"]
]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", GROUPS, ids="-".join)
def test_clean_code_raises_no_alarm(group: Group, tmp_path: Path) -> None:
    assert [one for one in _outcomes(group, tmp_path) if one[1] != "ok"] == []


def _outcomes(group: Group, folder: Path) -> list[tuple[int, str, str | None]]:
    """For each seed how the launch ended; one that was disturbed is made again."""
    execution = EXECUTIONS[group.framework]
    phase = PHASES.get(group.workload)
    with FaultProcess(group, folder=folder, cache=folder / "cache", execution=execution) as process:
        found = []
        for seed in range(SEEDS):
            for _ in range(MAX_TRIES):
                outcome = process.outcome(None, phase=phase, draw=seed, seed=seed)
                if outcome.status != "disturbed":
                    break
            found.append((seed, *outcome))
        return found
