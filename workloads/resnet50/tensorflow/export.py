"""Converts ResNet-50 from TensorFlow to LiteRT; a separate program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50
from workloads.resnet50.tensorflow.network import Convolutions, FoldedResNet50, frozen


def convert_to_litert(request_file: str) -> None:
    """Write the folded model in float32 for LiteRT, from NHWC images to logits.

    The request is JSON: `parameters` and `batch_size` of the work, `epsilon`, `weights` (canonical,
    an .npz file) and `output`. With `images` (HWC, one after another in an .npy file) the model is
    quantised to int8, calibrated on them; its input and output stay float32. The variables are
    frozen first: the converter drops those of a Keras model, and the logits would be NaN.
    """
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    layers = resnet50.network(request["parameters"])
    model = FoldedResNet50(layers, Convolutions())
    with np.load(request["weights"]) as weights:
        for name, array in spec.folded(dict(weights), request["epsilon"]):
            model.weights[name] = tf.Variable(array.astype(np.float32), trainable=False)
    size = layers.stem.input_size
    images_spec = tf.TensorSpec((request["batch_size"], size, size, 3), tf.float32, name="images")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen(model, images_spec)])
    if "images" in request:
        images = np.load(request["images"], allow_pickle=False)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: (
            [images.take(range(start, start + request["batch_size"]), axis=0, mode="wrap")]
            for start in range(0, len(images), request["batch_size"])
        )
    Path(request["output"]).write_bytes(converter.convert())


if __name__ == "__main__":
    convert_to_litert(sys.argv[1])
