"""TensorFlow's adapter on the CPU: settings applied, arrays, fences, compilations."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.frameworks.tensorflow import CAPABILITIES, environment
from tests.unit.launch_settings import SETTINGS

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")

from tensorflow.python.eager import context  # noqa: E402 - needs tensorflow

from benchmarks.frameworks.tensorflow.adapter import (  # noqa: E402 - needs tensorflow
    Adapter,
    count_flop,
)

COMPILES = """
import sys
from benchmarks.contract.framework import Settings
from benchmarks.frameworks.tensorflow.adapter import Adapter
import tensorflow as tf

adapter = Adapter()
adapter.configure(Settings("cpu", 1, "compiled", "fp32", 1, 1.0, sys.argv[1], sys.argv[1]))
tf.function(lambda x: 2 * x, jit_compile=True)(tf.ones(3))
sys.exit(adapter.describe()["onednn"] != "True")
"""


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """A function from changes of the settings to an adapter, in a TensorFlow that begins anew."""
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    context._reset_context()

    def configure(**changes):
        settings = dataclasses.replace(SETTINGS, cache_folder=str(tmp_path), **changes)
        for name, value in environment(settings).items():
            monkeypatch.setenv(name, value)
        adapter = Adapter()
        adapter.configure(settings)
        return adapter

    yield configure
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    context._reset_context()


def test_capabilities_import_no_framework():
    code = "import sys, benchmarks.frameworks.tensorflow; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_environment_names_threads_and_private_caches():
    variables = environment(dataclasses.replace(SETTINGS, device="cuda", num_threads=3))
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["CUDA_CACHE_PATH"].startswith("/cache/")
    assert "'/cache/xla'" in variables["TF_XLA_FLAGS"]


def test_environment_of_the_cpu_says_nothing_of_gpus():
    assert not any("GPU" in name or "CUD" in name for name in environment(SETTINGS))


def test_compiled_programs_go_to_the_cache_folder(tmp_path):
    folder = tmp_path / "a folder"
    settings = dataclasses.replace(SETTINGS, cache_folder=str(folder))
    done = subprocess.run(
        [sys.executable, "-c", COMPILES, str(folder)],
        env={**os.environ, **environment(settings)},
        check=False,
    )
    assert done.returncode == 0
    assert list((folder / "xla").iterdir())


def test_applies_the_number_of_threads(configured):
    described = configured(num_threads=2).describe()
    assert described["num_threads"] == "2"
    assert described["num_interop_threads"] == described["num_threads"]


@pytest.mark.parametrize("precision", CAPABILITIES.precisions["cpu"])
def test_turns_tf32_off_unless_asked_for(configured, precision):
    tf.config.experimental.enable_tensor_float_32_execution(True)
    assert configured(precision=precision).describe()["tf32"] == "False"


def test_describes_in_text_only(configured):
    described = configured().describe()
    assert described["tensorflow"] == tf.__version__
    assert all(isinstance(value, str) for value in described.values())


def test_sees_the_cpu(configured):
    assert configured().devices()["cpu"] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_put_and_get_return_the_same_array(configured, dtype):
    adapter = configured()
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    array.flags.writeable = False
    back = adapter.get(adapter.put(array))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


def test_put_copies(configured):
    adapter = configured()
    array = np.zeros(1024, np.float32)
    value = adapter.put(array)
    array += 1
    assert not adapter.get(value).any()


def test_get_copies_a_variable(configured):
    adapter = configured()
    variable = tf.Variable(tf.zeros(1024))
    array = adapter.get(variable)
    variable.assign_add(tf.ones(1024))
    assert not array.any()
    assert array.flags.writeable


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_get_widens_reduced_precision(configured, dtype):
    array = configured().get(tf.constant([0.5, 0.5], dtype))
    assert array.dtype == np.float32
    assert (array == 0.5).all()


@pytest.mark.parametrize(
    ("precision", "low", "high"), [("fp32", 0, 1e-6), ("bf16", 1e-4, 1e-2), ("fp64", 0, 1e-14)]
)
def test_matmul_has_the_configured_precision(configured, precision, low, high):
    adapter = configured(precision=precision)
    a, b = np.random.default_rng(0).standard_normal((2, 64, 64), dtype=np.float32)
    product = adapter.get(adapter.matmul(adapter.put(a), adapter.put(b)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert low <= np.linalg.norm(product - exact) / np.linalg.norm(exact) <= high


def test_says_where_a_tensor_lives(configured):
    assert configured().placement(tf.ones(3) + 1) == "cpu"


def test_waits_for_nothing_and_for_nested_values(configured):
    adapter = configured()
    adapter.wait(None)
    adapter.wait({"loss": tf.ones(()), "others": [tf.ones(3)]})


def test_reads_every_value_where_calls_return_early(configured):
    class Value:
        """A scalar that knows whether it was read."""

        shape = tf.TensorShape(())
        was_read = False

        def numpy(self):
            self.was_read = True

    adapter, values = configured(), [Value(), Value()]
    adapter._device = "cuda"
    adapter.wait(values)
    assert all(value.was_read for value in values)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_counts_each_trace(configured, jit_compile):
    adapter = configured()
    double = tf.function(lambda x: 2 * x, jit_compile=jit_compile, autograph=False)
    counts = []
    for size in (3, 3, 4):
        double(tf.ones(size))
        counts.append(adapter.num_compilations())
    assert counts == [1, 1, 2]


def test_counts_no_compilation_in_eager_execution(configured):
    adapter = configured()
    tf.ones(3) + 1
    assert adapter.num_compilations() == 0


def test_cannot_say_the_peak_memory_of_the_cpu(configured):
    assert configured().peak_memory_bytes() is None


def test_out_of_memory_is_recognised(configured):
    configured()
    with pytest.raises(tf.errors.ResourceExhaustedError) as caught:
        tf.zeros((2**45,))
    text = f"{caught.type.__name__}: {caught.value}"
    assert any(re.search(pattern, text) for pattern in CAPABILITIES.out_of_memory_patterns)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_counts_the_flop_of_attention(configured, batch):
    def products(query, key, value):
        return tf.matmul(tf.matmul(query, key, transpose_b=True), value)

    def gradients(*operands):
        return tf.gradients(products(*operands), operands)

    configured()
    operands = [tf.ones((*batch, *shape)) for shape in ((30, 40), (30, 40), (30, 50))]
    forward = int(np.prod(batch)) * 2 * (30 * 40 * 30 + 30 * 30 * 50)
    for function, flop in ((products, forward), (gradients, 3 * forward)):
        traced = tf.function(function, autograph=False).get_concrete_function(*operands)
        assert flop <= count_flop(traced.graph) <= 1.05 * flop  # elementwise operations are few
