"""ResNet-50 answering requests in Keras as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. Keras's own layers, as its
applications put them together, and `predict_on_batch`.
"""

from __future__ import annotations

import itertools

import keras
from keras import layers

from benchmarks.contract.program import Effective, RequestProgram
from benchmarks.frameworks.keras.model import image_layout
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}


def build(problem, framework):
    return PlainInference(problem, framework)


def layer_name(name):
    """The canonical name as Keras allows it."""
    return name.replace("/", "_")


def conv_bn(conv, x, epsilon):
    margin = (conv.kernel_size - 1) // 2
    if margin:
        x = layers.ZeroPadding2D(margin)(x)
    x = layers.Conv2D(
        conv.out_channels,
        conv.kernel_size,
        strides=conv.stride,
        use_bias=False,
        name=layer_name(conv.name),
    )(x)
    return layers.BatchNormalization(epsilon=epsilon, name=layer_name(f"{conv.name}/bn"))(x)


def bottleneck(block, x, epsilon):
    one, two, three = block.convolutions
    y = layers.Activation("relu")(conv_bn(one, x, epsilon))
    y = layers.Activation("relu")(conv_bn(two, y, epsilon))
    y = conv_bn(three, y, epsilon)
    if block.projection is not None:
        x = conv_bn(block.projection, x, epsilon)
    return layers.Activation("relu")(layers.Add()([x, y]))


def model_of(network, epsilon):
    """ResNet-50 v1.5, from images to logits."""
    size = network.stem.input_size
    images = keras.Input((size, size, 3))
    x = layers.Activation("relu")(conv_bn(network.stem, images, epsilon))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    for block in network.blocks:
        x = bottleneck(block, x, epsilon)
    x = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(network.num_classes, name="head")(x)
    # In mixed precision Keras asks for answers in float32.
    return keras.Model(images, layers.Activation("linear", dtype=keras.config.floatx())(logits))


class PlainInference(RequestProgram):
    """The model, its requests, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        execution = problem.case.way.execution
        self.framework = framework
        self.network = resnet50.network(problem.parameters)
        self.model = model_of(self.network, problem.hyperparameters["batch_norm_epsilon"])
        self.model.compile(run_eagerly=execution == "eager", jit_compile=execution == "compiled")

    def load(self, weights):
        self.model.get_layer("head").set_weights([weights["head/kernel"], weights["head/bias"]])
        for conv in self.network.convolutions():
            name = conv.name
            self.model.get_layer(layer_name(name)).set_weights([weights[f"{name}/kernel"]])
            parts = [f"{name}/bn/{part}" for part in ("scale", "bias", "mean", "variance")]
            normalisation = self.model.get_layer(layer_name(f"{name}/bn"))
            normalisation.set_weights([weights[part] for part in parts])

    def feed(self, batches):
        self.requests = itertools.cycle([self.framework.put(batch["images"]) for batch in batches])

    def step(self):
        images = next(self.requests)
        # The harness takes the backend's tensors; Keras answers with an array.
        self.logits = self.framework.put(self.model.predict_on_batch(images))
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters=self.model.get_layer("head").kernel.dtype,
            activations=self.model.get_layer("head").compute_dtype,
            layout=image_layout(),
            flop_per_step=None,
        )
