"""Launches of clean code raise no alarm, with whatever weights, batches and draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.fault_process import FaultProcess, Group

TRAINING = {
    "pytorch": "eager",
    "jax": "compiled",
    "tensorflow": "graph",
    "keras_torch": "eager",
    "keras_jax": "compiled",
    "keras_tensorflow": "graph",
    "mlx": "compiled",
}
"""Every framework that trains, each in the execution that most use."""
ENGINES = {"onnxruntime": "graph", "openvino": "graph", "litert": "graph"}
EXECUTIONS = TRAINING | ENGINES
FRAMEWORKS = {
    "resnet50_train": TRAINING,
    "transformer_finetune": TRAINING,
    "resnet50_infer": EXECUTIONS,
    "transformer_infer": ("pytorch", "jax", "mlx", "onnxruntime"),
}
"""By workload those that implement it."""
WITHOUT_BF16 = {"onnxruntime", "litert"}
SEEDS, MAX_TRIES = 20, 5
PHASES = {"transformer_infer": "decode"}
GROUPS = [
    Group(workload, framework, precision)
    for workload, frameworks in FRAMEWORKS.items()
    for framework in frameworks
    for precision in ("fp32", "bf16")
    if precision == "fp32" or framework not in WITHOUT_BF16
]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", GROUPS, ids="-".join)
def test_clean_code_raises_no_alarm(group: Group, tmp_path: Path) -> None:
    assert [one for one in _outcomes(group, tmp_path) if one[1] != "ok"] == []


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
