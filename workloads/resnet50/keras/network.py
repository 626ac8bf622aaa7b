"""ResNet-50 made of Keras's layers, for training, inference and every backend.

Keras's own layouts are the canonical ones: no kernel is transposed.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes. Images are BHWC
(layers with channels_first get BCHW views of them), kernels HWCD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import keras
from keras import layers

from workloads.resnet50.network import Block, Convolution, Network

VARIABLES = {
    "bn/scale": "gamma",
    "bn/bias": "beta",
    "bn/mean": "moving_mean",
    "bn/variance": "moving_variance",
}
"""Keras's name of each canonical part of a batch normalisation."""


@dataclass(frozen=True)
class Recipe:
    """Settings that all layers share."""

    epsilon: float
    image_format: str
    """Keras's data format of images."""
    share: float = 0.0
    """Weight of the new batch in the running statistics; 0 for inference, which keeps them."""

    convolution: Callable[..., layers.Layer] = layers.Conv2D
    """Makes a convolution from the arguments of Keras's own."""

    @property
    def has_channels_first(self) -> bool:
        """Whether layers take BCHW."""
        return self.image_format == "channels_first"

    def pad(self, margin: int, x_BHWC: Any) -> Any:
        """The images with zeros on each side."""
        return layers.ZeroPadding2D(margin, data_format=self.image_format)(x_BHWC)

    def convolve_and_normalise(self, conv: Convolution, x_BHWC: Any) -> Any:
        """The normalised convolution, BHWD."""
        margin = (conv.kernel_size - 1) // 2
        # Without stride `same` equals the explicit padding; with stride it would pad one side only.
        padding = "valid" if conv.stride > 1 else "same"
        if conv.stride > 1 and margin > 0:
            x_BHWC = self.pad(margin, x_BHWC)
        x_BHWD = self.convolution(
            conv.out_channels,
            conv.kernel_size,
            strides=conv.stride,
            padding=padding,
            data_format=self.image_format,
            use_bias=False,
            kernel_initializer="zeros",  # `load` sets the weights: draw none
            name=layer_name(conv.name),
        )(x_BHWC)
        return layers.BatchNormalization(
            axis=1 if self.has_channels_first else -1,
            momentum=1 - self.share,  # Keras's momentum is the old value's weight
            epsilon=self.epsilon,
            name=layer_name(f"{conv.name}/bn"),
        )(x_BHWD)


def model_of(
    network: Network,
    recipe: Recipe,
    *,
    batch_size: int,
    kind: type[keras.Model] = keras.Model,
) -> keras.Model:
    """ResNet-50 v1.5 from images to logits, in the configured dtype policy."""
    size, wide = network.stem.input_size, keras.config.floatx()
    shape = (3, size, size) if recipe.has_channels_first else (size, size, 3)
    images_BHWC = keras.Input(shape, batch_size=batch_size)
    x_BHWC = layers.ReLU()(recipe.convolve_and_normalise(network.stem, images_BHWC))
    # A separate operation pads, with zeros: a rectifier's output is never below 0.
    pool = layers.MaxPooling2D(3, strides=2, data_format=recipe.image_format)
    x_BHWC = pool(recipe.pad(1, x_BHWC))
    for block in network.blocks:
        x_BHWC = _bottleneck(block, recipe, x_BHWC)
    average = layers.GlobalAveragePooling2D(data_format=recipe.image_format, dtype=wide)
    head = layers.Dense(
        network.num_classes,
        kernel_initializer="zeros",
        name="head",
    )
    logits_BV = layers.Activation("linear", dtype=wide, name="logits")(head(average(x_BHWC)))
    return kind(images_BHWC, logits_BV)


def _bottleneck(block: Block, recipe: Recipe, x_BHWC: Any) -> Any:
    first, second, third = block.convolutions
    y_BHWC = layers.ReLU()(recipe.convolve_and_normalise(first, x_BHWC))
    y_BHWC = layers.ReLU()(recipe.convolve_and_normalise(second, y_BHWC))
    y_BHWC = recipe.convolve_and_normalise(third, y_BHWC)
    if block.projection is not None:
        x_BHWC = recipe.convolve_and_normalise(block.projection, x_BHWC)
    return layers.ReLU(name=layer_name(third.name, "out"))(layers.Add()([y_BHWC, x_BHWC]))


def canonical_variables(model: Any, network: Network) -> dict[str, Any]:
    """The model's variables by canonical name."""
    head = model.get_layer("head")
    found = {"head/kernel": head.kernel, "head/bias": head.bias}
    for conv in network.convolutions():
        found[f"{conv.name}/kernel"] = model.get_layer(layer_name(conv.name)).kernel
        normalisation = model.get_layer(layer_name(f"{conv.name}/bn"))
        for name, own in VARIABLES.items():
            found[f"{conv.name}/{name}"] = getattr(normalisation, own)
    return found


def layer_name(*parts: str) -> str:
    """A layer's name without slashes, which Keras does not allow."""
    return "_".join(parts).replace("/", "_")
