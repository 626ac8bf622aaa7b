"""JAX's adapter on the CPU: settings applied, arrays, fences, compilations."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.frameworks.jax import CAPABILITIES, environment
from tests.unit.launch_settings import SETTINGS as CPU_SETTINGS

jax = pytest.importorskip("jax", reason="jax is not installed")

from benchmarks.frameworks.jax import adapter as adapter_module  # noqa: E402 - needs jax
from benchmarks.frameworks.jax.adapter import Adapter  # noqa: E402 - needs jax

SETTINGS = dataclasses.replace(CPU_SETTINGS, execution="compiled")

COMPILES = """
import os, sys
from benchmarks.contract.framework import Settings
from benchmarks.frameworks.jax.adapter import Adapter
import jax

adapter = Adapter()
adapter.configure(Settings("cpu", 1, "compiled", "fp64", 3, 1.0, sys.argv[1], sys.argv[1]))
assert (jax.jit(lambda x: 2 * x)(jax.numpy.ones(3)).dtype) == "float64"
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(sum("XLAEigen" in name for name in names))
"""


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """A function from changes of the settings to an adapter; JAX's configuration is put back."""
    precision = jax.config.jax_default_matmul_precision
    adapters = []

    def configure(**changes):
        settings = dataclasses.replace(SETTINGS, cache_folder=str(tmp_path), **changes)
        for name, value in environment(settings).items():
            monkeypatch.setenv(name, value)
        adapter = Adapter()
        adapter.configure(settings)
        adapters.append(adapter)
        return adapter

    with jax.enable_x64(True):
        yield configure
    jax.config.update("jax_default_matmul_precision", precision)
    for adapter in adapters:
        jax.monitoring.unregister_event_duration_listener(adapter._count_compilation)


def test_capabilities_import_no_framework():
    code = "import sys, benchmarks.frameworks.jax; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_environment_names_the_platform_threads_and_private_caches():
    variables = environment(dataclasses.replace(SETTINGS, num_threads=3))
    assert variables["JAX_PLATFORMS"] == "cpu"
    assert variables["PJRT_NPROC"] == "3"
    assert variables["JAX_COMPILATION_CACHE_DIR"].startswith("/cache/")


def test_environment_limits_the_memory_of_a_gpu_only():
    variables = environment(dataclasses.replace(SETTINGS, device="cuda", memory_fraction=0.45))
    assert variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.4500"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in environment(SETTINGS)


def test_malloc_keeps_one_heap_on_the_cpu_only():
    assert environment(SETTINGS)["MALLOC_ARENA_MAX"] == "1"
    variables = environment(dataclasses.replace(SETTINGS, device="cuda"))
    assert not any(name.startswith("MALLOC") for name in variables)


@pytest.mark.parametrize(("precision", "x64"), [("fp32", "0"), ("bf16", "0"), ("fp64", "1")])
def test_environment_allows_64_bits_in_fp64_alone(precision, x64):
    variables = environment(dataclasses.replace(SETTINGS, precision=precision))
    assert variables["JAX_ENABLE_X64"] == x64


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_environment_sets_threads_and_fills_the_compile_cache(tmp_path):
    settings = dataclasses.replace(
        SETTINGS, precision="fp64", num_threads=3, cache_folder=str(tmp_path)
    )
    done = subprocess.run(
        [sys.executable, "-c", COMPILES, str(tmp_path)],
        env={**os.environ, **environment(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "3"
    assert list((tmp_path / "xla").iterdir())


@pytest.mark.parametrize("precision", CAPABILITIES.precisions["cuda"])
def test_never_leaves_the_precision_of_32_bit_products_to_a_default(precision):
    chosen = adapter_module.MATMUL_PRECISIONS[precision]
    if precision in ("fp32", "tf32"):
        assert chosen == {"fp32": "float32", "tf32": "tensorfloat32"}[precision]
    else:
        assert chosen is not None


def test_applies_the_precision_of_products(configured):
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    assert configured().describe()["jax_default_matmul_precision"] == "float32"


def test_describes_in_text_only(configured):
    described = configured().describe()
    assert described["jax"] == jax.__version__
    assert set(CAPABILITIES.distributions) <= set(described)
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
    # Whole pages, aligned: what JAX would otherwise take over as it is.
    memory = np.zeros(2**16 + 4096, np.uint8)
    offset = -memory.ctypes.data % 4096
    array = memory[offset : offset + 2**16].view(np.float32)
    value = adapter.put(array)
    array += 1
    assert not adapter.get(value).any()


def test_get_copies(configured):
    array = configured().get(jax.numpy.zeros(1024))
    assert array.flags.writeable
    assert array.flags.owndata


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_get_widens_reduced_precision(configured, dtype):
    array = configured().get(jax.numpy.full(2, 0.5, dtype))
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


def test_says_where_an_array_or_a_tree_lives(configured):
    adapter = configured()
    assert adapter.placement(jax.numpy.ones(3)) == "cpu"
    assert adapter.placement({"loss": jax.numpy.ones(())}) == "cpu"


def test_waits_for_nothing_and_for_every_array_of_a_tree(configured):
    class Array:
        """A result that knows whether it was waited for."""

        is_ready = False

        def block_until_ready(self):
            self.is_ready = True

    adapter, arrays = configured(), [Array(), Array()]
    adapter.wait(None)
    adapter.wait({"loss": arrays[0], "others": [arrays[1]]})
    assert all(array.is_ready for array in arrays)


def test_counts_each_compilation(configured):
    adapter = configured()
    double = jax.jit(lambda x: 2 * x)
    operands = [adapter.put(np.ones(size, np.float32)) for size in (3, 3, 4)]
    before, counts = adapter.num_compilations(), []
    for operand in operands:
        adapter.wait(double(operand))
        counts.append(adapter.num_compilations() - before)
    assert counts == [1, 1, 2]


def test_state_from_put_and_from_a_program_run_one_and_the_same_program(configured):
    adapter = configured()
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    weights = adapter.put(np.ones(3, np.float32))
    state = {"weights": weights, "momentum": jax.jit(jax.numpy.zeros_like)(weights)}
    counts = []
    for _ in range(2):
        state = step(state)
        counts.append(adapter.num_compilations())
    assert counts[0] == counts[1]


def test_cannot_say_the_peak_memory_of_the_cpu(configured):
    assert configured().peak_memory_bytes() is None


def test_out_of_memory_is_recognised(configured):
    configured()
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.numpy.zeros((2**45,)).block_until_ready()
    text = f"{caught.type.__name__}: {caught.value}"
    assert any(re.search(pattern, text) for pattern in CAPABILITIES.out_of_memory_patterns)


@pytest.mark.parametrize("stride", [1, 2])
def test_flop_of_a_trace_are_the_products_with_padding_and_without_the_zeros_between(stride):
    images, kernel = np.ones((2, 4, 4, 3), np.float32), np.ones((3, 3, 3, 5), np.float32)

    @jax.jit
    def loss(images, kernel):
        convolved = jax.lax.conv_general_dilated(
            images,
            kernel,
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (convolved.reshape(2, -1) @ np.ones((80 // stride**2, 7), np.float32)).sum()

    convolution = 2 * 2 * (4 // stride) ** 2 * 5 * 27
    product = 2 * 2 * (80 // stride**2) * 7
    gradient = jax.grad(loss, argnums=(0, 1))
    assert adapter_module.count_flop(loss, images, kernel) == convolution + product
    assert adapter_module.count_flop(gradient, images, kernel) == 3 * convolution + 2 * product
