"""ResNet-50 answering requests in Keras 3, for every backend: its layers and its predict step.

Batch normalisation stays a layer, as it does in a Keras model that is deployed as it was trained.
Kernels are in canonical layout, and images lie in memory as BHWC: where a backend's layers are
fastest as channels_first, they get views with the channels first.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC
(to layers with channels_first their views are BCHW), kernels HWCD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.keras.framework import KerasFramework
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}

VARIABLES = {
    "bn/scale": "gamma",
    "bn/bias": "beta",
    "bn/mean": "moving_mean",
    "bn/variance": "moving_variance",
}
"""Keras's name of each canonical part of a batch normalisation."""


def build(problem: Problem, framework: KerasFramework) -> ResNet50Inference:
    """The program of this case, without weights and requests yet."""
    return ResNet50Inference(problem, framework)


@dataclass(frozen=True)
class Recipe:
    """What the layers need to know beside their shapes."""

    epsilon: float
    image_format: str
    """Keras's data format of images."""

    @property
    def has_channels_first(self) -> bool:
        """Whether layers take BCHW."""
        return self.image_format == "channels_first"

    def pad(self, margin: int, x_BHWC: Any) -> Any:
        """Zeros on each side of the images."""
        return layers.ZeroPadding2D(margin, data_format=self.image_format)(x_BHWC)

    def convolve_and_normalise(self, conv: resnet50.Convolution, x_BHWC: Any) -> Any:
        """The normalised convolution, BHWD."""
        margin = (conv.kernel_size - 1) // 2
        # Without stride `same` is the explicit padding; with stride it would pad one side only.
        padding = "valid" if conv.stride > 1 else "same"
        if conv.stride > 1 and margin > 0:
            x_BHWC = self.pad(margin, x_BHWC)
        x_BHWD = layers.Conv2D(
            conv.out_channels,
            conv.kernel_size,
            strides=conv.stride,
            padding=padding,
            data_format=self.image_format,
            use_bias=False,
            kernel_initializer="zeros",  # `load` brings the weights: draw none
            name=_layer_name(conv.name),
        )(x_BHWC)
        name = _layer_name(f"{conv.name}/bn")
        axis = 1 if self.has_channels_first else -1
        return layers.BatchNormalization(axis, epsilon=self.epsilon, name=name)(x_BHWD)


def model_of(network: resnet50.Network, recipe: Recipe, *, batch_size: int) -> keras.Model:
    """ResNet-50 v1.5 from images to logits, in the configured dtype policy."""
    size, wide = network.stem.input_size, keras.config.floatx()
    shape = (3, size, size) if recipe.has_channels_first else (size, size, 3)
    images_BHWC = keras.Input(shape, batch_size=batch_size)
    x_BHWC = layers.ReLU()(recipe.convolve_and_normalise(network.stem, images_BHWC))
    # Padded apart and by zeros: what comes out of a rectifier is never less.
    pool = layers.MaxPooling2D(3, strides=2, data_format=recipe.image_format)
    x_BHWC = pool(recipe.pad(1, x_BHWC))
    for block in network.blocks:
        x_BHWC = _bottleneck(block, recipe, x_BHWC)
    average = layers.GlobalAveragePooling2D(data_format=recipe.image_format, dtype=wide)
    x_BC = average(x_BHWC)
    head = layers.Dense(network.num_classes, kernel_initializer="zeros", name="head")
    logits_BV = layers.Activation("linear", dtype=wide, name="logits")(head(x_BC))
    return keras.Model(images_BHWC, logits_BV)


def _bottleneck(block: resnet50.Block, recipe: Recipe, x_BHWC: Any) -> Any:
    first, second, third = block.convolutions
    y_BHWC = layers.ReLU()(recipe.convolve_and_normalise(first, x_BHWC))
    y_BHWC = layers.ReLU()(recipe.convolve_and_normalise(second, y_BHWC))
    y_BHWC = recipe.convolve_and_normalise(third, y_BHWC)
    if block.projection is not None:
        x_BHWC = recipe.convolve_and_normalise(block.projection, x_BHWC)
    return layers.ReLU(name=_layer_name(third.name, "out"))(layers.Add()([y_BHWC, x_BHWC]))


class ResNet50Inference:
    """The model, device-resident requests, and Keras's predict step; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: KerasFramework) -> None:
        self._framework = framework
        self._network = resnet50.network(problem.parameters)
        recipe = Recipe(problem.hyperparameters["batch_norm_epsilon"], framework.image_format)
        self._axes = (0, 3, 1, 2) if recipe.has_channels_first else (0, 1, 2, 3)
        """In which order the layers take the axes of BHWC."""
        self._model = model_of(
            self._network,
            recipe,
            batch_size=problem.case.work.batch_size,
        )
        self._inference = framework.inference(self._model)
        self._requests: list[Any] = []
        self._next = 0
        self._logits: Any = None

    def export(self, weights: Arrays) -> None:
        """Do nothing: the weights are loaded as they are."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics."""
        for name, variable in _canonical_variables(self._model, self._network).items():
            variable.assign(self._framework.put(weights[name].astype(variable.dtype)))

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these requests on the device."""
        put, wide = self._framework.put, keras.config.floatx()
        self._requests = [
            keras.ops.transpose(put(batch["images"].astype(wide)), self._axes) for batch in batches
        ]
        self._next = 0

    def prepare(self) -> None:
        """Do nothing: a request stands by itself."""

    def step(self) -> Any:
        """Enqueue the next request; its logits."""
        images_BHWC = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        self._logits = self._inference.answer(images_BHWC)
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """What the model's variables are, and what its layers return."""
        third = self._network.blocks[0].convolutions[2].name
        activations = self._model.get_layer(_layer_name(third, "out")).compute_dtype
        part = keras.Model(self._model.input, self._model.get_layer(_layer_name(third)).output)
        return Effective(
            parameters=self._model.get_layer("head").kernel.dtype,
            activations=activations,
            layout=self._framework.memory_layout(part, self._requests[0]),
            flop_per_step=self._inference.count_flop(self._requests[0]),
            folded="nothing",
        )

    def artefact_bytes(self) -> None:
        """Nothing is exported."""


def _canonical_variables(model: Any, network: resnet50.Network) -> dict[str, Any]:
    """The model's variables by canonical name."""
    head = model.get_layer("head")
    found = {"head/kernel": head.kernel, "head/bias": head.bias}
    for conv in network.convolutions():
        found[f"{conv.name}/kernel"] = model.get_layer(_layer_name(conv.name)).kernel
        normalisation = model.get_layer(_layer_name(f"{conv.name}/bn"))
        for name, own in VARIABLES.items():
            found[f"{conv.name}/{name}"] = getattr(normalisation, own)
    return found


def _layer_name(*parts: str) -> str:
    """A layer's name, in which Keras allows no slash."""
    return "_".join(parts).replace("/", "_")
