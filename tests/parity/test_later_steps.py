"""Launches of clean code raise no alarm, with whatever weights, batches and draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.fault_process import FaultProcess, Group

EXECUTIONS = {
    "pytorch": "eager",
    "jax": "compiled",
    "tensorflow": "graph",
    "keras_torch": "eager",
    "keras_jax": "compiled",
    "keras_tensorflow": "graph",
    "mlx": "compiled",
}
"""Every framework that trains, each in the execution that most use."""
SEEDS, MAX_TRIES = 20, 5
PHASES = {"transformer_infer": "decode"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("framework", EXECUTIONS)
@pytest.mark.parametrize("workload", ["resnet50_train", "transformer_finetune"])
def test_training_raises_no_alarm(
    workload: str, framework: str, precision: str, tmp_path: Path
) -> None:
    found = _outcomes(Group(workload, framework, precision), tmp_path)
    assert [one for one in found if one[1] != "ok"] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("framework", ["pytorch", "jax"])
@pytest.mark.parametrize("workload", ["resnet50_infer", "transformer_infer"])
def test_inference_raises_no_alarm(
    workload: str, framework: str, precision: str, tmp_path: Path
) -> None:
    found = _outcomes(Group(workload, framework, precision), tmp_path)
    assert [one for one in found if one[1] != "ok"] == []


def _outcomes(group: Group, folder: Path) -> list[tuple[int, str, str | None]]:
    """For each seed how the launch ended; one that the machine disturbed is made once more."""
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
