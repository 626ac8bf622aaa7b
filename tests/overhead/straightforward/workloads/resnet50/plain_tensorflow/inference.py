"""ResNet-50 answering requests in TensorFlow as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. `tf.nn` operations over variables,
batch normalisation by its running statistics, one `tf.function`. As a program of its own it
converts the model for LiteRT.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.contract.program import Effective, RequestProgram
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}

COMPUTE_DTYPES = {"bf16": tf.bfloat16, "fp16": tf.float16, "fp64": tf.float64}


def build(problem, framework):
    return PlainInference(problem, framework)


class ResNet50(tf.Module):
    """ResNet-50 v1.5."""

    def __init__(self, layers, epsilon, weights, dtype):
        super().__init__()
        self.layers = layers
        self.epsilon = epsilon
        self.dtype = dtype
        self.wide_dtype = tf.float64 if dtype == tf.float64 else tf.float32
        self.variables_by_name = {
            name: tf.Variable(tf.cast(array, self.dtype_of(name)), trainable=False)
            for name, array in weights.items()
        }

    def __call__(self, images):
        x = tf.nn.relu(self.conv_bn(self.layers.stem, images))
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID")
        for block in self.layers.blocks:
            one, two, three = block.convolutions
            y = tf.nn.relu(self.conv_bn(one, x))
            y = tf.nn.relu(self.conv_bn(two, y))
            y = self.conv_bn(three, y)
            shortcut = x if block.projection is None else self.conv_bn(block.projection, x)
            x = tf.nn.relu(y + shortcut)
        x = tf.reduce_mean(x, axis=[1, 2])
        logits = x @ self.variables_by_name["head/kernel"] + self.variables_by_name["head/bias"]
        return tf.cast(logits, self.wide_dtype)

    def conv_bn(self, conv, x):
        margin = (conv.kernel_size - 1) // 2
        padding = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
        kernel = self.variables_by_name[f"{conv.name}/kernel"]
        return tf.nn.batch_normalization(
            tf.nn.conv2d(x, kernel, conv.stride, padding),
            mean=self.variables_by_name[f"{conv.name}/bn/mean"],
            variance=self.variables_by_name[f"{conv.name}/bn/variance"],
            offset=self.variables_by_name[f"{conv.name}/bn/bias"],
            scale=self.variables_by_name[f"{conv.name}/bn/scale"],
            variance_epsilon=self.epsilon,
        )

    def dtype_of(self, name):
        """Batch normalisation keeps its parameters in float32, as Keras's mixed precision does."""
        return self.wide_dtype if "/bn/" in name else self.dtype


class PlainInference(RequestProgram):
    """The model, its requests, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        self.framework = framework
        self.layers = resnet50.network(problem.parameters)
        self.epsilon = problem.hyperparameters["batch_norm_epsilon"]
        self.dtype = COMPUTE_DTYPES.get(problem.case.way.precision, tf.float32)
        self.execution = problem.case.way.execution

    def load(self, weights):
        self.model = ResNet50(self.layers, self.epsilon, weights, self.dtype)
        self.run = self.model
        if self.execution != "eager":
            self.run = tf.function(self.model, jit_compile=self.execution == "compiled")

    def feed(self, batches):
        self.requests = itertools.cycle(
            [tf.cast(self.framework.put(batch["images"]), self.dtype) for batch in batches]
        )

    def step(self):
        images = next(self.requests)
        self.logits = self.run(images)
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters=self.model.variables_by_name["head/kernel"].dtype.name,
            activations=self.dtype.name,
            layout="NHWC",
            flop_per_step=None,
        )


def convert_to_litert(request_file):
    """Write the model as LiteRT takes it, by way of a saved model: BHWC images to logits."""
    request = json.loads(Path(request_file).read_text())
    layers = resnet50.network(request["parameters"])
    with np.load(request["weights"]) as weights:
        model = ResNet50(layers, request["epsilon"], weights, tf.float32)
    size = layers.stem.input_size
    batch_size = request["batch_size"]
    images = tf.TensorSpec((batch_size, size, size, 3), tf.float32, name="images")
    folder = f"{request['output']}.saved_model"
    tf.saved_model.save(model, folder, tf.function(model).get_concrete_function(images))
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if "images" in request:
        calibration = np.load(request["images"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [calibration.take(range(start, start + batch_size), axis=0, mode="wrap")]
            for start in range(0, len(calibration), batch_size)
        )
    Path(request["output"]).write_bytes(converter.convert())


if __name__ == "__main__":
    convert_to_litert(sys.argv[1])
