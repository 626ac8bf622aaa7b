"""Keras on PyTorch: PyTorch's adapter, and Keras's train function on its tensors.

It imports torch, the contract and what the Keras frameworks share.
"""

from __future__ import annotations

from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.frameworks.keras.framework import LAST_LOSS, Examined, KerasFramework, Training
from benchmarks.frameworks.pytorch import adapter as pytorch_adapter


class Adapter(KerasFramework):
    """Keras on PyTorch as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        super().__init__(pytorch_adapter.Adapter(), backend_name="torch")

    def _training(self, model: Any) -> Training:
        return TorchTraining(model)


class TorchTraining:
    """Keras's train function, which takes the first of a list of batches."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def step(self, inputs: Any, targets: Any) -> Any:
        """Enqueue one train step; its loss."""
        return self._model.train_function([(inputs, targets)])[LAST_LOSS]

    def sync(self) -> None:
        """Do nothing: the step works on the variables themselves."""

    def examine(self, inputs: Any, targets: Any) -> Examined:
        """What an eager step is, which moves the state on; torch counts products only."""
        with FlopCounterMode(display=False) as counter:
            self._model.train_step((inputs, targets))
        gradient = self._model.trainable_variables[0].value.grad
        return Examined(
            gradients=pytorch_adapter.dtype_name(gradient.dtype),
            flop_per_step=counter.get_total_flops(),
        )
