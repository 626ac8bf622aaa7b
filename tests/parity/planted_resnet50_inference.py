"""Mistakes in a ResNet-50 that answers requests, to be planted with `planting`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import planted_resnet50
from tests.parity.planted_programs import fed_with, loaded_with
from tests.parity.planting import replace_in, replace_in_copy

KERAS_EPSILON = 1e-3

IMPLEMENTATION = "workloads.resnet50.{}.inference"
"""The module of a framework's program."""
LAYERS = "spec"
"""Its name of the module that MATHEMATICS replaces members of."""
CONSTANTS: Mapping[str, Mapping[str, float]] = {}


def reversed_channels(program: Any) -> Any:
    """Take blue for red."""
    feed = program.feed
    program.feed = lambda batches: feed(
        [{"images": np.ascontiguousarray(batch["images"][..., ::-1])} for batch in batches]
    )
    return program


def unloaded_statistics(program: Any) -> Any:
    """Leave the running statistics as they are initialised."""
    load, initial = program.load, {"mean": np.zeros_like, "variance": np.ones_like}

    def load_without(weights: Any) -> None:
        kinds = ((name, name.rpartition("/bn/")[2]) for name in weights)
        load({name: initial.get(kind, np.asarray)(weights[name]) for name, kind in kinds})

    program.load = load_without
    return program


def constant_request(program: Any) -> Any:
    """Answer the first request again and again."""
    feed = program.feed
    program.feed = lambda batches: feed([batches[0]] * len(batches))
    return program


def stale_answer(program: Any) -> Any:
    """Hand out the answer to the request before."""
    step, answers = program.step, []

    def step_behind() -> Any:
        answers.append(step())
        return answers[-2:][0]

    program.step = step_behind
    return program


def request_twice(program: Any) -> Any:
    """Answer every second request with the answer to the one before."""
    feed, step, state = program.feed, program.step, {"num_asked": 0, "answer": None}

    def feed_anew(batches: Any) -> None:
        state["num_asked"] = 0
        feed(batches)

    def step_or_repeat() -> Any:
        state["num_asked"] += 1
        if state["num_asked"] % 2:
            state["answer"] = step()
        else:
            next(program._turns)
        return state["answer"]

    program.feed, program.step = feed_anew, step_or_repeat
    return program


def unfrozen(program: Any) -> Any:
    """TensorFlow 2.21 leaves the variables of a Keras 3 model out on this route, without a word."""

    def export(weights: Any) -> None:
        import tensorflow as tf

        from workloads.resnet50 import network as resnet50
        from workloads.resnet50.keras import network

        problem = program._problem
        layers = resnet50.network(problem.parameters)
        size, batch_size = layers.stem.input_size, problem.case.work.batch_size
        epsilon = problem.hyperparameters["batch_norm_epsilon"]
        recipe = network.Recipe(epsilon, "channels_last")
        model = network.model_of(layers, recipe, batch_size=batch_size)
        for name, variable in network.canonical_variables(model, layers).items():
            variable.assign(weights[name])
        images = tf.TensorSpec((batch_size, size, size, 3), tf.float32)
        traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(images)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], model)
        program._file = Path(problem.scratch_folder) / "model.tflite"
        program._file.write_bytes(converter.convert())

    program.export = export
    return program


def untold(program: Any) -> Any:
    """Do not tell what the convolutions are made of."""

    def inspect() -> Any:
        raise RuntimeError("nothing is known of the model")

    program.inspect = inspect
    return program


def _answered_with(program: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Change the logits, as they are read and as they are handed out."""
    step, read = program.step, program.read

    def changed_step() -> Any:
        answer = step()
        values = change(np.asarray(answer))
        if hasattr(answer, "new_tensor"):
            return answer.new_tensor(values)
        import jax.numpy as jnp

        return jnp.asarray(values)

    program.step = changed_step
    program.read = lambda: {"logits": change(read()["logits"])}
    return program


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _without_the_last(logits: np.ndarray) -> np.ndarray:
    changed = logits.copy()
    changed[..., -1] = 0
    return changed


def _images(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], Any]:
    return lambda program: fed_with(program, lambda one: {"images": change(one["images"])})


def _in_fp16(weights: Any) -> Any:
    return {n: np.asarray(weights[n]).astype(np.float16).astype(np.float32) for n in weights}


WRAPPERS: Mapping[str, Callable[[Any], Any]] = {
    "images_in_steps": _images(lambda images: np.round(images * 32) / np.float32(32)),
    "images_scaled": _images(lambda images: images * np.float32(1.001)),
    "weights_in_fp16": lambda program: loaded_with(program, _in_fp16),
    "softmaxed": lambda program: _answered_with(program, _softmax),
    "last_class_dropped": lambda program: _answered_with(program, _without_the_last),
    "reversed_channels": reversed_channels,
    "unloaded_statistics": unloaded_statistics,
    "constant_request": constant_request,
    "stale_answer": stale_answer,
    "request_twice": request_twice,
    "unfrozen": unfrozen,
    "untold": untold,
}


def _folded_with(epsilon: float) -> Mapping[str, Any]:
    """Fold batch normalisation with this epsilon."""
    from workloads.resnet50 import inference_spec as spec

    own = spec.folded
    return {"folded": lambda arrays, _epsilon: own(arrays, epsilon)}


MATHEMATICS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "epsilon": lambda: _folded_with(KERAS_EPSILON),
    "smaller_epsilon": lambda: _folded_with(1e-6),
}


def pytorch_v1_strides(implementation: Any) -> None:
    """Put the stride of a block into its first 1x1 convolution."""
    replace_in_copy(implementation, "resnet50", **planted_resnet50.v1_strides())


jax_v1_strides = pytorch_v1_strides


def pytorch_same_padding(implementation: Any) -> None:
    """Pad as SAME does: strided windows on one side."""
    import torch.nn.functional as F
    from torch import nn

    def padded(x: Any, size: int, stride: int) -> Any:
        total = max(0, size - stride)
        low, high = total // 2, total - total // 2
        return F.pad(x, (low, high, low, high))

    class Same(nn.Conv2d):
        def forward(self, x):
            (size, _), (stride, _) = self.kernel_size, self.stride
            return F.conv2d(padded(x, size, stride), self.weight, self.bias, stride)

    def made(layer: Any, **_: Any) -> Any:
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
        return Same(*sizes, stride=layer.stride)

    def max_pool2d(x: Any, *, kernel_size: int, stride: int, padding: int) -> Any:
        return F.max_pool2d(padded(x, kernel_size, stride), kernel_size, stride)

    replace_in(implementation.network, made=made)
    replace_in_copy(implementation.network, "F", max_pool2d=max_pool2d)


def jax_same_padding(implementation: Any) -> None:
    """Pad as SAME does: strided windows on one side."""
    import jax

    def convolve(layer: Any, weights: Any, x: Any, **_: Any) -> Any:
        kernel, strides = weights[f"{layer.name}/kernel"], (layer.stride, layer.stride)
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=numbers)
        return y + weights[f"{layer.name}/bias"]

    def stem(layer: Any, weights: Any, images: Any) -> Any:
        x = jax.nn.relu(convolve(layer, weights, images))
        zero = np.zeros((), x.dtype)
        return jax.lax.reduce_window(x, zero, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")

    replace_in(implementation, convolve=convolve, stem=stem)


def pytorch_training_mode(implementation: Any) -> None:
    """Leave the plain code in training mode: tuned programs fold it, and have no such mode."""
    from straightforward.workloads.resnet50.plain_pytorch import inference

    def build(problem: Any, adapter: Any) -> Any:
        program = inference.build(problem, adapter)
        program.model.train()
        return program

    replace_in(implementation, build=build)


def litert_unquantised(implementation: Any) -> None:
    """Export the model of floats when int8 was asked for."""
    own = implementation.write_litert

    def write_litert(problem: Any, weights: Any, file: Any) -> Any:
        way = dataclasses.replace(problem.case.way, precision="fp32")
        case = dataclasses.replace(problem.case, way=way)
        return own(dataclasses.replace(problem, case=case), weights, file)

    replace_in(implementation, write_litert=write_litert)
