"""PyTorch's adapter on the CPU: settings applied, arrays, fences, compilations."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.frameworks.pytorch import CAPABILITIES, environment
from tests.unit.launch_settings import SETTINGS

torch = pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.frameworks.pytorch.adapter import Adapter  # noqa: E402 - needs torch


@pytest.fixture
def configured():
    """A function from changes of the settings to an adapter; torch's state is put back."""
    num_threads, precision = torch.get_num_threads(), torch.backends.fp32_precision

    def configure(**changes):
        adapter = Adapter()
        adapter.configure(dataclasses.replace(SETTINGS, **changes))
        return adapter

    yield configure
    torch.set_num_threads(num_threads)
    torch.backends.fp32_precision = precision


def test_capabilities_import_no_framework():
    code = "import sys, benchmarks.frameworks.pytorch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_environment_keeps_every_cache_in_the_cache_folder():
    variables = environment(SETTINGS)
    folders = [value for name, value in variables.items() if name.endswith(("_DIR", "_PATH"))]
    assert len(folders) == 4
    assert all(folder.startswith("/cache/") for folder in folders)
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == "1"


def test_temporary_files_are_kept_where_inductor_puts_its_headers_there():
    compiled = environment(dataclasses.replace(SETTINGS, execution="compiled"))
    assert compiled["TMPDIR"].startswith(SETTINGS.cache_folder)
    assert "TMPDIR" not in environment(SETTINGS)


def test_environment_turns_the_layout_optimization_off_on_metal_only():
    metal = environment(dataclasses.replace(SETTINGS, device="metal"))
    assert metal["TORCHINDUCTOR_LAYOUT_OPTIMIZATION"] == "0"
    assert "TORCHINDUCTOR_LAYOUT_OPTIMIZATION" not in environment(SETTINGS)


def test_applies_the_number_of_threads(configured):
    adapter = configured(num_threads=2)
    assert torch.get_num_threads() == 2
    assert adapter.describe()["num_threads"] == "2"


@pytest.mark.parametrize("precision", CAPABILITIES.precisions["cpu"])
def test_turns_tf32_off_everywhere_unless_asked_for(configured, precision):
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    described = configured(precision=precision).describe()
    switches = {n: v for n, v in described.items() if n.startswith("fp32_precision.")}
    assert len(switches) == 5
    assert set(switches.values()) == {"ieee"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_put_and_get_return_the_same_array(configured, dtype):
    adapter = configured()
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    array.flags.writeable = False
    back = adapter.get(adapter.put(array))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


def test_put_copies(configured):
    array = np.zeros(3, np.float32)
    value = configured().put(array)
    value += 1
    assert not array.any()


def test_get_copies_and_keeps_the_shape_of_scalars(configured):
    adapter = configured()
    value = torch.zeros(())
    array = adapter.get(value)
    value += 1
    assert array.shape == ()
    assert array == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_get_widens_reduced_precision(configured, dtype):
    array = configured().get(torch.full((2,), 0.5, dtype=dtype))
    assert array.dtype == np.float32
    assert (array == 0.5).all()


@pytest.mark.parametrize(
    ("precision", "dtype", "low", "high"),
    [
        ("fp32", torch.float32, 0, 1e-6),
        ("bf16", torch.bfloat16, 1e-4, 1e-2),
        ("fp64", torch.float64, 0, 1e-14),
    ],
)
def test_matmul_has_the_configured_precision(configured, precision, dtype, low, high):
    adapter = configured(precision=precision)
    a, b = np.random.default_rng(0).standard_normal((2, 64, 64), dtype=np.float32)
    product = adapter.matmul(adapter.put(a), adapter.put(b))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    error = np.linalg.norm(adapter.get(product) - exact) / np.linalg.norm(exact)
    assert product.dtype == dtype
    assert low <= error <= high


def test_says_where_a_tensor_lives(configured):
    adapter = configured()
    assert adapter.placement(torch.zeros(1)) == "cpu"
    assert adapter.placement(torch.zeros(1, device="meta")) == "meta"
    assert adapter.devices()["cpu"] == 1


def test_eager_compiles_nothing_and_the_cpu_keeps_no_peak(configured):
    adapter = configured()
    adapter.wait(torch.ones(2) + 1)
    adapter.settle()
    assert adapter.num_compilations() == 0
    assert adapter.peak_memory_bytes() is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_counts_compilations_and_recompilations(configured):
    adapter = configured(execution="compiled")
    double = torch.compile(lambda x: 2 * x, backend="eager", dynamic=False)
    double(torch.ones(2))
    first = adapter.num_compilations()
    double(torch.ones(2))
    again = adapter.num_compilations()
    double(torch.ones(3))
    assert (first, again, adapter.num_compilations()) == (1, 1, 2)


def test_recognises_an_out_of_memory_error_of_the_cpu():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    text = str(raised.value)
    assert any(re.search(pattern, text) for pattern in CAPABILITIES.out_of_memory_patterns)


def test_does_not_take_every_error_for_out_of_memory():
    with pytest.raises(RuntimeError) as raised:
        torch.ones(2) @ torch.ones(3)
    text = str(raised.value)
    assert not any(re.search(pattern, text) for pattern in CAPABILITIES.out_of_memory_patterns)
