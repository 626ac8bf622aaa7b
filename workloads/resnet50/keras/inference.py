"""ResNet-50 inference in Keras 3, for every backend: Keras's layers and its predict step.

Batch normalisation remains a layer, as in a Keras model that is deployed as it was trained.
Kernels are in canonical layout, and images are BHWC in memory. If a backend's layers are faster
with channels_first, they get views of the images with the channels first.

Shapes: B batch, H height, W width, C channels, V classes. Images are BHWC; layers with
channels_first get BCHW views of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.keras.framework import KerasFramework
from workloads.resnet50 import network as resnet50
from workloads.resnet50.keras.network import Recipe, canonical_variables, layer_name, model_of

IMPLEMENTS = {"resnet50_infer"}


def build(problem: Problem, framework: KerasFramework) -> ResNet50Inference:
    """Build the program of this case; it has no weights and no requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference(RequestProgram):
    """The model, device-resident requests, and Keras's predict step; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: KerasFramework) -> None:
        self._framework = framework
        self._network = resnet50.network(problem.parameters)
        recipe = Recipe(problem.hyperparameters["batch_norm_epsilon"], framework.image_format)
        self._axes = (0, 3, 1, 2) if recipe.has_channels_first else (0, 1, 2, 3)
        """The order in which the layers take the axes of BHWC."""
        self._model = model_of(
            self._network,
            recipe,
            batch_size=problem.case.work.batch_size,
        )
        self._inference = framework.inference(self._model)
        self._requests: list[Any] = []
        self._turns = itertools.cycle(self._requests)
        self._logits: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics."""
        for name, variable in canonical_variables(self._model, self._network).items():
            variable.assign(self._framework.put(weights[name].astype(variable.dtype)))

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these requests to the device."""
        put, wide = self._framework.put, keras.config.floatx()
        self._requests = [
            keras.ops.transpose(put(batch["images"].astype(wide)), self._axes) for batch in batches
        ]
        self._turns = itertools.cycle(self._requests)

    def step(self) -> Any:
        """Enqueue the next request and return its logits."""
        self._logits = self._inference.answer(next(self._turns))
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """Dtypes of variables and activations, layout and FLOP of the model."""
        third = self._network.blocks[0].convolutions[2].name
        activations = self._model.get_layer(layer_name(third, "out")).compute_dtype
        part = keras.Model(self._model.input, self._model.get_layer(layer_name(third)).output)
        return Effective(
            parameters=self._model.get_layer("head").kernel.dtype,
            activations=activations,
            layout=self._framework.memory_layout(part, self._requests[0]),
            flop_per_step=self._inference.count_flop(self._requests[0]),
            folded="nothing",
        )
