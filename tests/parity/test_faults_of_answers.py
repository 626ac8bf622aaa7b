"""Mistakes planted into programs that answer requests: each is caught, and named in the output.

A fault is a framework of an extension folder, `<framework>_<fault>`, whose program is the real one
with the mistake in it. Its worker imports this file: what a fault needs of a framework it imports
itself.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.planning.catalog import discover
from tests.parity import parity_cli, planted_resnet50
from tests.parity.planting import ADAPTER_FILE, FRAMEWORK_FILE, replace_in, replace_in_copy

WORKLOAD, MODEL = "resnet50_infer", "resnet50"
NAMED = {
    "epsilon": "epsilon of batch normalisation",
    "v1_strides": "the stride of a block is in its first 1x1 convolution (v1)",
    "same_padding": "SAME pads a strided window on one side",
    "reversed_channels": "the images' channels are reversed",
    "unloaded_statistics": "the running statistics are not loaded",
    "constant_request": "the input does not matter",
    "stale_answer": "what is handed out is not the token, or the logits, of this request",
}
"""What the output says of each fault of PyTorch's and JAX's programs."""
STATISTICS_OF_THE_BATCH = "batch normalisation in training mode"
WITHOUT_WEIGHTS = "variables that were not frozen into it"
KERAS_EPSILON = 1e-3
EXECUTIONS = {"pytorch": "eager", "jax": "compiled", "litert": "graph"}
IMPLEMENTATION_FILE = """\
from tests.parity.test_faults_of_answers import planted

IMPLEMENTS = {{{workload!r}}}
EXPORTED_FROM = {exported_from!r}
build = planted({fault!r}, {own!r})
"""


def planted(fault, framework):
    """The `build` of the framework's implementation, with this fault in it."""
    package = f"workloads.{MODEL}.{framework}"
    if fault in IN_PLAIN_CODE:
        package = f"straightforward.workloads.{MODEL}.plain_{framework}"
    implementation = importlib.import_module(f"{package}.inference")
    if fault in IN_THE_PROGRAM:
        plant = IN_THE_PROGRAM[fault]
        return lambda problem, adapter: plant(implementation.build(problem, adapter))
    IN_THE_MODULE[fault](implementation)
    return implementation.build


def epsilon(implementation):
    own = implementation.spec.folded
    replace_in_copy(
        implementation, "spec", folded=lambda arrays, _epsilon: own(arrays, KERAS_EPSILON)
    )


def v1_strides(implementation):
    replace_in_copy(implementation, "resnet50", **planted_resnet50.v1_strides())


def same_padding(implementation):
    own = {"pytorch": pytorch_same_padding, "jax": jax_same_padding}
    own[implementation.__name__.split(".")[-2]](implementation)


def pytorch_same_padding(implementation):
    import torch.nn.functional as F
    from torch import nn

    def padded(x, size, stride):
        total = max(0, size - stride)
        low, high = total // 2, total - total // 2
        return F.pad(x, (low, high, low, high))

    class Same(nn.Conv2d):
        def forward(self, x):
            (size, _), (stride, _) = self.kernel_size, self.stride
            return F.conv2d(padded(x, size, stride), self.weight, self.bias, stride)

    def made(layer, **_):
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
        return Same(*sizes, stride=layer.stride)

    def max_pool2d(x, *, kernel_size, stride, padding):
        return F.max_pool2d(padded(x, kernel_size, stride), kernel_size, stride)

    replace_in(implementation.network, made=made)
    replace_in_copy(implementation.network, "F", max_pool2d=max_pool2d)


def jax_same_padding(implementation):
    import jax

    def convolve(layer, weights, x):
        kernel, strides = weights[f"{layer.name}/kernel"], (layer.stride, layer.stride)
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=numbers)
        return y + weights[f"{layer.name}/bias"]

    def stem(layer, weights, images):
        x = jax.nn.relu(convolve(layer, weights, images))
        zero = np.zeros((), x.dtype)
        return jax.lax.reduce_window(x, zero, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")

    replace_in(implementation, convolve=convolve, stem=stem)


def reversed_channels(program):
    feed = program.feed
    program.feed = lambda batches: feed(
        [{"images": np.ascontiguousarray(batch["images"][..., ::-1])} for batch in batches]
    )
    return program


def unloaded_statistics(program):
    load, initial = program.load, {"mean": np.zeros_like, "variance": np.ones_like}

    def load_without(weights):
        kinds = ((name, name.rpartition("/bn/")[2]) for name in weights)
        load({name: initial.get(kind, np.asarray)(weights[name]) for name, kind in kinds})

    program.load = load_without
    return program


def constant_request(program):
    feed = program.feed
    program.feed = lambda batches: feed([batches[0]] * len(batches))
    return program


def stale_answer(program):
    step, answers = program.step, []

    def step_behind():
        answers.append(step())
        return answers[-2:][0]

    program.step = step_behind
    return program


def training_mode(program):
    program.model.train()
    return program


def unfrozen(program):
    """TensorFlow 2.21 leaves the variables of a Keras 3 model out on this route, without a word."""

    def export(weights):
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


def unquantised(implementation):
    """Export the model of floats where int8 was asked for."""
    own = implementation.write_litert

    def write_litert(problem, weights):
        way = dataclasses.replace(problem.case.way, precision="fp32")
        case = dataclasses.replace(problem.case, way=way)
        return own(dataclasses.replace(problem, case=case), weights)

    replace_in(implementation, write_litert=write_litert)


def untold(program):
    """Do not tell what the convolutions are made of."""

    def inspect():
        raise RuntimeError("nothing is known of the model")

    program.inspect = inspect
    return program


IN_THE_MODULE = {
    "epsilon": epsilon,
    "v1_strides": v1_strides,
    "same_padding": same_padding,
    "unquantised": unquantised,
}
IN_THE_PROGRAM = {
    "reversed_channels": reversed_channels,
    "unloaded_statistics": unloaded_statistics,
    "constant_request": constant_request,
    "stale_answer": stale_answer,
    "training_mode": training_mode,
    "unfrozen": unfrozen,
    "untold": untold,
}
IN_PLAIN_CODE = ("training_mode",)
"""Planted into the plain code: tuned programs fold batch normalisation, and have no such mode."""


def cells_of(framework, faults, *, precision, folder, cache):
    """By fault the cell of the framework's implementation with it, as `dyno parity` prints it."""
    extension = folder / "planted"
    own = discover().implementations[WORKLOAD, framework]
    for fault in faults:
        name = f"{framework}_{fault}"
        files = {
            extension / "frameworks" / name / "__init__.py": FRAMEWORK_FILE,
            extension / "frameworks" / name / "adapter.py": ADAPTER_FILE,
            extension / "workloads" / MODEL / f"{name}_impl.py": IMPLEMENTATION_FILE,
        }
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            values = {"own": framework, "name": name, "fault": fault, "workload": WORKLOAD}
            file.write_text(text.format(**values, exported_from=dict(own.exported_from)))
    cells = parity_cli.cells_of(
        *("--extend", str(extension), "--extend", str(parity_cli.PLAIN_CODE)),
        f"framework={','.join(f'{framework}_{fault}' for fault in faults)}",
        f"execution={EXECUTIONS[framework]}",
        f"precision={precision}",
        cache=cache,
        workload=WORKLOAD,
    )
    return {cell["framework"].removeprefix(f"{framework}_"): cell for cell in cells}


class Planted:
    """The faults in one framework, proven when they are first asked for."""

    def __init__(self, framework, cache, folder):
        self.framework, self.cache, self.folder = framework, cache, folder
        self.found = {}

    def cell(self, precision, fault):
        if precision not in self.found:
            self.found[precision] = cells_of(
                self.framework, NAMED, precision=precision, folder=self.folder, cache=self.cache
            )
        return self.found[precision][fault]


@pytest.fixture(scope="module", params=["pytorch", pytest.param("jax", marks=pytest.mark.slow)])
def faults(request, cache, tmp_path_factory):
    return Planted(request.param, cache, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("precision", ["fp64", pytest.param("fp32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", NAMED)
def test_a_planted_fault_is_caught_and_named(fault, precision, faults):
    cell = faults.cell(precision, fault)
    assert cell["status"] == "fail"
    assert NAMED[fault] in cell["causes"][0], (cell["causes"], cell["reason"])
    assert NAMED[fault] in cell["reason"]


@pytest.mark.parametrize("precision", ["fp64", pytest.param("fp32", marks=pytest.mark.slow)])
def test_statistics_of_the_batch_are_caught_and_named(precision, cache, tmp_path):
    options = {"precision": precision, "folder": tmp_path, "cache": cache}
    cell = cells_of("pytorch", ["training_mode"], **options)["training_mode"]
    assert cell["status"] == "fail"
    assert STATISTICS_OF_THE_BATCH in cell["causes"][0], (cell["causes"], cell["reason"])


def test_a_model_that_was_exported_without_its_weights_is_caught_and_named(cache, tmp_path):
    options = {"precision": "fp32", "folder": tmp_path, "cache": cache}
    cell = cells_of("litert", ["unfrozen"], **options)["unfrozen"]
    assert cell["status"] == "fail"
    assert "not finite" in cell["reason"]
    assert WITHOUT_WEIGHTS in cell["causes"][0]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("unquantised", "share of the convolutions that are not of integers"),
        ("untold", "inspection does not tell"),
    ],
)
def test_a_model_in_int8_shows_its_products_of_integers(fault, reason, cache, tmp_path):
    options = {"precision": "int8", "folder": tmp_path, "cache": cache}
    cell = cells_of("litert", [fault], **options)[fault]
    assert cell["status"] == "fail"
    assert reason in cell["reason"]
