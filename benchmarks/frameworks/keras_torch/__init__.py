"""Keras on PyTorch: its capabilities and its environment. Imports no framework."""

from __future__ import annotations

import dataclasses

from benchmarks.contract.framework import Settings, Unsupported
from benchmarks.frameworks import keras, pytorch

# Keras 3.15 and torch 2.13. With the loss that `compile` wraps, Dynamo fails even earlier, with an
# assertion of its own, https://github.com/keras-team/keras/issues/22282.
NO_COMPILED_STEP = Unsupported(
    reason="torch.compile reaches its recompile limit on Keras's layers: most of the step would run"
    " eagerly",
    link="https://github.com/keras-team/keras/issues/21851",
    execution="compiled",
)

ON_PYTORCH = keras.capabilities(
    pytorch.CAPABILITIES,
    name="keras_torch",
    distributions=pytorch.CAPABILITIES.distributions,
    has_float64=False,
)

CAPABILITIES = dataclasses.replace(
    ON_PYTORCH,
    executions=("eager",),
    needs_compiler=(),
    unsupported=(*ON_PYTORCH.unsupported, NO_COMPILED_STEP),
)

TORCH_DEVICES = {"cpu": "cpu", "cuda": "cuda", "metal": "mps"}
"""Torch's name of each device; by default Keras uses an accelerator if there is one."""


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before torch and keras are imported."""
    return {
        **pytorch.environment(settings),
        **keras.environment("torch", settings),
        "KERAS_TORCH_DEVICE": TORCH_DEVICES[settings.device],
    }
