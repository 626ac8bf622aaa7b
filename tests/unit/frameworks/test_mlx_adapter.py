"""MLX's adapter on the CPU: settings applied, arrays, fences, convolutions, the BLAS."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.frameworks.mlx import CAPABILITIES, TEMPORARY, environment
from tests.unit.launch_settings import SETTINGS

mx = pytest.importorskip("mlx.core", reason="mlx is not installed")

from benchmarks.frameworks.mlx import adapter as adapter_module  # noqa: E402 - needs mlx
from benchmarks.frameworks.mlx.adapter import Adapter, convolution  # noqa: E402 - needs mlx

COMPILES = """
import sys
from benchmarks.contract.framework import Settings
from benchmarks.frameworks.mlx.adapter import Adapter
import mlx.core as mx

Adapter().configure(Settings("cpu", 1, "compiled", "fp32", 1, 1.0, sys.argv[1], sys.argv[1]))
mx.eval(mx.compile(lambda x: mx.exp(2 * x) - 1)(mx.ones(8)))
"""
NAMES_BLAS = "from benchmarks.frameworks.mlx import adapter; print(adapter.blas())"

needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the loader of Linux")


@pytest.fixture
def configured():
    """A function from changes of the settings to an adapter; MLX's device is put back."""
    device = mx.default_device()

    def configure(**changes):
        adapter = Adapter()
        adapter.configure(dataclasses.replace(SETTINGS, **changes))
        return adapter

    yield configure
    mx.set_default_device(device)


def test_capabilities_import_no_framework():
    code = "import sys, benchmarks.frameworks.mlx; sys.exit('mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("device", CAPABILITIES.precisions)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_environment_turns_tf32_on_where_it_is_asked_for_only(device, precision):
    variables = environment(dataclasses.replace(SETTINGS, device=device, precision=precision))
    assert variables["MLX_ENABLE_TF32"] == ("1" if precision == "tf32" else "0")


def test_environment_names_the_threads_of_every_blas():
    variables = environment(dataclasses.replace(SETTINGS, num_threads=3))
    threads = {name for name, value in variables.items() if value == "3"}
    assert threads == {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"}


def test_environment_keeps_the_caches_of_cuda_in_the_cache_folder():
    variables = environment(dataclasses.replace(SETTINGS, device="cuda"))
    assert variables["MLX_PTX_CACHE_DIR"].startswith("/cache/")
    assert variables["CUDA_CACHE_PATH"].startswith("/cache/")
    assert not any("CACHE" in name for name in environment(SETTINGS))


def test_temporary_files_are_kept_where_compile_puts_its_kernels_there():
    compiled = dataclasses.replace(SETTINGS, execution="compiled")
    assert environment(compiled)["TMPDIR"] == f"/cache/{TEMPORARY}"
    assert "TMPDIR" not in environment(SETTINGS)
    assert "TMPDIR" not in environment(dataclasses.replace(compiled, device="metal"))


@needs_gcc
def test_compiled_kernels_go_to_the_cache_folder(tmp_path):
    folder = tmp_path / "a folder"
    settings = dataclasses.replace(SETTINGS, execution="compiled", cache_folder=str(folder))
    subprocess.run(
        [sys.executable, "-c", COMPILES, str(folder)],
        env={**os.environ, **environment(settings)},
        check=True,
    )
    assert list((folder / TEMPORARY).rglob("*.so"))


def test_refuses_to_compile_without_the_compiler_that_mlx_calls(configured, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"g\+\+"):
        configured(execution="compiled", cache_folder=str(tmp_path))


def test_describes_in_text_only(configured):
    described = configured().describe()
    assert described["mlx"] == mx.__version__
    assert all(isinstance(value, str) for value in described.values())
    assert {"blas", "num_threads", "metal_available", "MLX_ENABLE_TF32"} <= set(described)


@on_linux
def test_says_that_linux_is_no_apple_silicon(configured):
    assert configured().describe()["apple_silicon"] == "False"


@on_linux
def test_names_a_blas_that_is_really_loaded():
    kind, _, file = adapter_module.blas().rstrip(")").partition(" (")
    mapped = Path("/proc/self/maps").read_text()
    assert kind
    assert f"/{file}\n" in mapped


@on_linux
@needs_gcc
def test_names_the_blas_that_is_preloaded(tmp_path):
    source, library = tmp_path / "blas.cpp", tmp_path / "libother.so"
    source.write_text('extern "C" void cblas_sgemm() {} extern "C" void openblas_get_config() {}')
    subprocess.run(["g++", "-shared", "-fPIC", source, "-o", library], check=True)
    said = subprocess.run(
        [sys.executable, "-c", NAMES_BLAS],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.strip() == "OpenBLAS (libother.so)"


def test_sees_the_cpu(configured):
    assert configured().devices()["cpu"] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_put_and_get_return_the_same_array(configured, dtype):
    adapter = configured()
    array = (np.arange(6, dtype=dtype) / dtype(3)).astype(dtype).reshape(2, 3).T
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


def test_get_copies_and_keeps_the_shape_of_scalars(configured):
    adapter = configured()
    assert adapter.get(mx.zeros(())).shape == ()
    value = mx.zeros(1024)
    array = adapter.get(value)
    array += 1
    assert not adapter.get(value).any()


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_get_widens_reduced_precision(configured, dtype):
    array = configured().get(mx.full((2,), 0.5, dtype=dtype))
    assert array.dtype == np.float32
    assert (array == 0.5).all()


PRECISIONS = [
    ("fp32", mx.float32, 0, 1e-6),
    ("bf16", mx.bfloat16, 1e-4, 1e-2),
    ("fp64", mx.float64, 0, 1e-14),
]


@pytest.mark.parametrize(("precision", "dtype", "low", "high"), PRECISIONS)
def test_matmul_has_the_configured_precision(configured, precision, dtype, low, high):
    adapter = configured(precision=precision)
    a, b = np.random.default_rng(0).standard_normal((2, 64, 64), dtype=np.float32)
    product = adapter.matmul(adapter.put(a), adapter.put(b))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert product.dtype == dtype
    assert low <= _relative_error(adapter.get(product), exact) <= high


@pytest.mark.parametrize(("precision", "dtype", "low", "high"), PRECISIONS)
def test_convolve_has_the_configured_precision(configured, precision, dtype, low, high):
    adapter = configured(precision=precision)
    images, kernel = _operands(image_size=6, kernel_size=3)
    y = adapter.convolve(adapter.put(images), adapter.put(kernel.transpose(1, 2, 3, 0)))
    assert y.dtype == dtype
    assert low <= _relative_error(adapter.get(y), _exact(images, kernel, stride=1)) <= high


SHAPES = [(6, 1, 1), (6, 1, 2), (6, 3, 1), (6, 3, 2), (7, 3, 2), (8, 7, 2)]


@pytest.mark.parametrize(("image_size", "kernel_size", "stride"), SHAPES)
def test_convolution_on_the_cpu_is_exact_in_float64(configured, image_size, kernel_size, stride):
    adapter = configured(precision="fp64")
    images, kernel = _operands(image_size=image_size, kernel_size=kernel_size)
    own = convolution(device="cpu", stride=stride)
    y = adapter.get(own(adapter.put(images), adapter.put(kernel)))
    assert _relative_error(y, _exact(images, kernel, stride=stride)) <= 1e-14


@pytest.mark.parametrize(("image_size", "kernel_size", "stride"), SHAPES)
def test_gradients_of_the_convolution_on_the_cpu_are_exact_in_float64(
    configured, image_size, kernel_size, stride
):
    # It is linear in either operand: along any direction its change is what the gradient says.
    adapter = configured(precision="fp64")
    images, kernel = _operands(image_size=image_size, kernel_size=kernel_size)
    towards_images, towards_kernel = _operands(image_size, kernel_size, seed=1)
    dy = np.random.default_rng(2).standard_normal(_exact(images, kernel, stride=stride).shape)
    own, put = convolution(device="cpu", stride=stride), adapter.put
    gradients = mx.grad(lambda x, w: (own(x, w) * put(dy)).sum(), argnums=(0, 1))
    dimages, dkernel = map(adapter.get, gradients(put(images), put(kernel)))
    by_images = (_exact(towards_images, kernel, stride=stride) * dy).sum()
    by_kernel = (_exact(images, towards_kernel, stride=stride) * dy).sum()
    assert (dimages * towards_images).sum() == pytest.approx(by_images, rel=1e-12)
    assert (dkernel * towards_kernel).sum() == pytest.approx(by_kernel, rel=1e-12)


@pytest.mark.parametrize(("image_size", "kernel_size", "stride"), SHAPES)
def test_convolution_on_an_accelerator_is_the_same_function(
    configured, image_size, kernel_size, stride
):
    adapter = configured()
    images, kernel = _operands(image_size=image_size, kernel_size=kernel_size)
    own = convolution(device="metal", stride=stride)
    operands = (adapter.put(one.astype(np.float32)) for one in (images, kernel))
    y = adapter.get(own(*operands))
    assert _relative_error(y, _exact(images, kernel, stride=stride)) <= 1e-6


def test_says_which_device_computes(configured):
    adapter = configured()
    assert adapter.placement(mx.ones(3)) == "cpu"


def test_waiting_computes_every_array_of_a_tree(configured):
    adapter = configured()
    adapter.wait(None)
    before = mx.get_active_memory()
    tree = {"loss": mx.arange(1000) + 1, "others": [mx.arange(1000) * 2]}
    assert mx.get_active_memory() - before < 8000
    adapter.wait(tree)
    assert mx.get_active_memory() - before >= 8000


def test_waiting_empties_the_stream(configured, monkeypatch):
    calls = []
    monkeypatch.setattr(adapter_module.mx, "synchronize", lambda: calls.append("synchronize"))
    configured().wait(None)
    assert calls == ["synchronize"]


def test_compilations_are_not_counted(configured):
    assert configured().num_compilations() is None


def test_cannot_say_the_peak_memory_of_the_cpu(configured):
    assert configured().peak_memory_bytes() is None


def test_settling_begins_the_peak_anew(configured):
    adapter = configured()
    adapter.wait(mx.arange(100000) + 1)
    adapter._device = "metal"
    peak = adapter.peak_memory_bytes()
    adapter.settle()
    assert peak >= 400000
    assert adapter.peak_memory_bytes() < peak


def test_holds_a_gpu_to_its_share_of_the_memory(monkeypatch):
    limits = {}
    monkeypatch.setattr(mx, "device_info", lambda: {"total_memory": 1000, "free_memory": 1})
    monkeypatch.setattr(mx, "set_memory_limit", lambda limit: limits.update(memory=limit))
    monkeypatch.setattr(mx, "set_cache_limit", lambda limit: limits.update(cache=limit))
    adapter_module._limit_memory(0.45)
    assert limits == {"memory": 450, "cache": 450}


@pytest.mark.parametrize(
    "message",
    [
        "RuntimeError: [malloc] Unable to allocate 1099511627776 bytes.",
        "RuntimeError: [metal::malloc] Attempting to allocate 48736917632 bytes which is greater"
        " than the maximum allowed buffer size of 30150672384 bytes.",
        "RuntimeError: [METAL] Command buffer execution failed: Insufficient Memory"
        " (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
        "RuntimeError: cudaMallocAsync(&data, size, stream) failed: out of memory.",
    ],
)
def test_out_of_memory_is_recognised(message):
    assert any(re.search(pattern, message) for pattern in CAPABILITIES.out_of_memory_patterns)


def test_does_not_take_every_error_for_out_of_memory():
    with pytest.raises(ValueError, match="matmul") as caught:
        mx.ones((2, 2)) @ mx.ones((3, 3))
    text = f"{caught.type.__name__}: {caught.value}"
    assert not any(re.search(pattern, text) for pattern in CAPABILITIES.out_of_memory_patterns)


def _operands(image_size, kernel_size, seed=0):
    """Images BHWC and a kernel DHWC, float64."""
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((2, image_size, image_size, 3))
    return images, generator.standard_normal((4, kernel_size, kernel_size, 3))


def _exact(images, kernel, *, stride):
    """The convolution from its definition, tap by tap, BHWD."""
    size, extent = kernel.shape[1], images.shape[1]
    margin, outputs = (size - 1) // 2, (extent - 1) // stride + 1
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    y = np.zeros((len(images), outputs, outputs, len(kernel)))
    for row, column in np.ndindex(outputs, outputs):
        top, left = row * stride, column * stride
        window = padded[:, top : top + size, left : left + size]
        y[:, row, column] = np.einsum("bhwc,dhwc->bd", window, kernel)
    return y


def _relative_error(value, exact):
    return np.linalg.norm(value - exact) / np.linalg.norm(exact)
