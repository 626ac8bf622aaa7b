"""MLX's adapter: devices, precision, fences and memory for the worker; convolutions for programs.

It imports mlx, the contract and nothing else of the harness.

Shapes: B batch, H height, W width, C channels in, D channels out, N outputs of all images,
K taps of a kernel times its channels in. Images are BHWC, MLX's kernels DHWC.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

import mlx.core as mx
import numpy as np

from benchmarks.contract.framework import Settings
from benchmarks.frameworks.mlx import CAPABILITIES, TEMPORARY

COMPUTE_DTYPES = {
    "fp32": mx.float32,
    "tf32": mx.float32,
    "bf16": mx.bfloat16,
    "bf16_pure": mx.bfloat16,
    "fp16": mx.float16,
    "fp64": mx.float64,
}
"""The dtype of the operands of convolutions and matmuls in each precision."""

TOTAL_MEMORY_KEYS = ("max_recommended_working_set_size", "total_memory")
"""Keys of the memory that a GPU may use, in Metal's and in CUDA's device information."""

REPORTED_DEVICE_KEYS = ("device_name", "architecture", "memory_size", "total_memory")
"""Keys whose values are the same in each launch; Metal and CUDA name the memory differently."""

REPORTED_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "MLX_ENABLE_TF32",
    "MLX_DISABLE_COMPILE",
    "MLX_MAX_OPS_PER_BUFFER",
    "MLX_MAX_MB_PER_BUFFER",
    "MLX_METAL_FAST_SYNCH",
    "MLX_USE_CUDA_GRAPHS",
)

BLAS_MARKS = {
    "openblas_get_config": "OpenBLAS",
    "MKL_Get_Version": "MKL",
    "bli_info_get_version_str": "BLIS",
    "ATL_buildinfo": "ATLAS",
}
"""A function that only this library has; netlib's reference BLAS has no such function."""

Convolution = Callable[[mx.array, mx.array], mx.array]


class Adapter:
    """MLX as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        self._device = "cpu"
        self._dtype = mx.float32

    def configure(self, settings: Settings) -> None:
        """Set the device, its memory and the precision; the rest is in the environment."""
        self._device = settings.device
        self._dtype = COMPUTE_DTYPES[settings.precision]
        mx.set_default_device(mx.cpu if settings.device == "cpu" else mx.gpu)
        if (settings.device, settings.execution) == ("cpu", "compiled"):
            _prepare_compiler(Path(settings.cache_folder, TEMPORARY))
        if settings.memory_fraction < 1.0:
            _limit_memory(settings.memory_fraction)

    def devices(self) -> dict[str, int]:
        """The devices that MLX sees here, with their number; the CPU is always one of them."""
        kind = _gpu_kind()
        return {"cpu": 1} if kind is None else {"cpu": 1, kind: mx.device_count(mx.gpu)}

    def put(self, array: np.ndarray) -> Any:
        """A copy of the array in memory that every device shares, with its dtype."""
        # By default, MLX converts float64 to float32.
        return mx.array(array, dtype=mx.float64 if array.dtype == np.float64 else None)

    def get(self, value: Any) -> np.ndarray:
        """A copy on the host; bf16 and fp16 come back as float32."""
        is_narrow = value.dtype in (mx.bfloat16, mx.float16)
        return np.array(value.astype(mx.float32) if is_narrow else value)

    def wait(self, values: Any) -> None:
        """Return when every array in this tree is computed and the device's stream is empty."""
        mx.eval(values)
        mx.synchronize()

    def placement(self, value: Any) -> str:
        """The kind of device that computes a value.

        Differs: memory is shared, and an MLX array has no device, only its operations have one.
        Programs name no device: all operations run on the default one, which is read back.
        """
        del value
        return "cpu" if mx.default_device() == mx.cpu else _gpu_kind() or "unknown"

    def num_compilations(self) -> None:
        """None: MLX does not count them."""

    def peak_memory_bytes(self) -> int | None:
        """The peak of a GPU's live arrays; None on the CPU, where it would lack scratch memory."""
        return None if self._device == "cpu" else int(mx.get_peak_memory())

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b, computed and returned in the dtype of the configured precision."""
        return a.astype(self._dtype) @ b.astype(self._dtype)

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel, padded to the same size, BHWD."""
        kernel_DHWC = kernel.transpose(3, 0, 1, 2)
        own = convolution(device=self._device, stride=1)
        return own(images.astype(self._dtype), kernel_DHWC.astype(self._dtype))

    def settle(self) -> None:
        """Reset the device's peak of memory; MLX compiles within the call."""
        mx.reset_peak_memory()

    def describe(self) -> dict[str, str]:
        """Versions and effective settings, read back from MLX, its libraries and the process."""
        known = mx.device_info(mx.default_device())
        return {
            **_versions(),
            "device": str(mx.default_device()),
            "metal_available": str(mx.metal.is_available()),
            "apple_silicon": str(is_apple_silicon()),
            "blas": blas(),
            # On the CPU, operands narrower than float32 are widened for a convolution.
            "products": dtype_name(self._product_dtype()),
            # MLX computes a stream in one thread. Only BLAS may use more: see the variables below.
            "num_threads": "1",
            "memory_limit_bytes": str(mx.get_memory_limit()),
            **{key: str(known[key]) for key in REPORTED_DEVICE_KEYS if key in known},
            **{name: os.environ.get(name, "") for name in REPORTED_VARIABLES},
        }

    def _product_dtype(self) -> mx.Dtype:
        is_widened = self._device == "cpu" and self._dtype == mx.bfloat16
        return mx.float32 if is_widened else self._dtype


def convolution(*, device: str, stride: int) -> Convolution:
    """A function from BHWC images and a DHWC kernel to their convolution, BHWD.

    Images are padded by (kernel_size - 1) // 2 on each side.
    """
    if device == "cpu":
        return _convolution_on_cpu(stride)

    def convolve(x_BHWC: mx.array, kernel_DHWC: mx.array) -> mx.array:
        margin = (kernel_DHWC.shape[1] - 1) // 2
        return mx.conv2d(x_BHWC, kernel_DHWC, stride=stride, padding=margin)

    return convolve


def dtype_name(dtype: mx.Dtype) -> str:
    """NumPy's name of a dtype, or bfloat16."""
    return str(dtype).removeprefix("mlx.core.")


def is_apple_silicon() -> bool:
    """Whether this machine has Apple silicon, for which MLX is made."""
    return (sys.platform, platform.machine()) == ("darwin", "arm64")


def blas() -> str:
    """The library that MLX's matmuls on the CPU call: its kind and its file.

    On Linux a preloaded library takes precedence over the wheel's own, so the function is looked
    up in the same order as MLX's loader does.
    """
    if sys.platform == "darwin":
        return "Accelerate"
    for library in (ctypes.CDLL(None), ctypes.CDLL(mx.__file__)):
        file = _file_of(getattr(library, "cblas_sgemm", None))
        if file is not None:
            return f"{_blas_kind(file)} ({Path(file).name})"
    return "unknown"


class _Location(ctypes.Structure):
    """Dl_info of dladdr(3)."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _file_of(function: Any) -> str | None:
    """The library that a function was loaded from."""
    if function is None:
        return None
    location = _Location()
    found = ctypes.CDLL(None).dladdr(function, ctypes.byref(location))
    return os.fsdecode(location.file) if found else None


def _blas_kind(file: str) -> str:
    library = ctypes.CDLL(file)
    kinds = (kind for mark, kind in BLAS_MARKS.items() if getattr(library, mark, None))
    return next(kinds, "netlib reference" if ".libs/" in file else "unrecognised")


def _gpu_kind() -> str | None:
    """Our name of the GPU that this build of MLX can use; None if there is none."""
    if mx.metal.is_available():
        return "metal"
    return "cuda" if mx.cuda.is_available() else None


def _prepare_compiler(folder: Path) -> None:
    """Create the folder for compiled kernels, which MLX needs; RuntimeError without g++.

    MLX uses no other compiler; without g++ it silently fuses nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("g++") is None:
        raise RuntimeError("mx.compile on the CPU needs g++, which is not on PATH")


def _limit_memory(fraction: float) -> None:
    """Limit MLX's allocations and its cache to a share of the GPU's memory."""
    information = mx.device_info()
    total = next(int(information[key]) for key in TOTAL_MEMORY_KEYS if key in information)
    mx.set_memory_limit(int(fraction * total))
    mx.set_cache_limit(int(fraction * total))


def _versions() -> dict[str, str]:
    versions = {}
    for name in CAPABILITIES.distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _convolution_on_cpu(stride: int) -> Convolution:
    """The convolution as a matmul of patches and kernel, gradients included, in fp32 or fp64.

    Differs: MLX's own (0.32.4) computes float64 in float32, has no float64 gradient if it is
    strided, and passes BLAS transposed operands, which takes twice the time. As MLX's own does, it
    computes narrower operands in float32 and rounds the result.
    """

    @mx.custom_function
    def convolve(x_BHWC: mx.array, kernel_DHWC: mx.array) -> mx.array:
        patches_NK = _patches(x_BHWC, size=kernel_DHWC.shape[1], stride=stride)
        # Copied: BLAS is slowest if the second operand is the transposed one.
        kernel_KD = mx.contiguous(kernel_DHWC.reshape(kernel_DHWC.shape[0], -1).T)
        num_images, height, width, _ = x_BHWC.shape
        shape = (num_images, _output_size(height, stride), _output_size(width, stride), -1)
        return (patches_NK @ kernel_KD).reshape(shape)

    @convolve.vjp
    def gradients(
        primals: tuple[mx.array, mx.array], dy_BHWD: mx.array, _: mx.array
    ) -> tuple[mx.array, mx.array]:
        x_BHWC, kernel_DHWC = primals
        size = kernel_DHWC.shape[1]
        dy_ND = dy_BHWD.reshape(-1, dy_BHWD.shape[-1])
        dpatches_NK = dy_ND @ kernel_DHWC.reshape(kernel_DHWC.shape[0], -1)
        dkernel_DK = dy_ND.T @ _patches(x_BHWC, size=size, stride=stride)
        dx_BHWC = _overlapped(dpatches_NK, x_BHWC.shape, size=size, stride=stride)
        return dx_BHWC, dkernel_DK.reshape(kernel_DHWC.shape)

    def convolve_widened(x_BHWC: mx.array, kernel_DHWC: mx.array) -> mx.array:
        wide = mx.float64 if x_BHWC.dtype == mx.float64 else mx.float32
        y_BHWD: Any = convolve(x_BHWC.astype(wide), kernel_DHWC.astype(wide))
        return mx.astype(y_BHWD, x_BHWC.dtype)

    return convolve_widened


def _output_size(size: int, stride: int) -> int:
    return (size - 1) // stride + 1


def _patches(x_BHWC: mx.array, *, size: int, stride: int) -> mx.array:
    """The inputs of the kernel at each output, NK, in the order of the kernel's elements."""
    if size == 1:
        return x_BHWC[:, ::stride, ::stride].reshape(-1, x_BHWC.shape[-1])
    rows, columns = (_output_size(extent, stride) for extent in x_BHWC.shape[1:3])
    margin = (size - 1) // 2
    x_BHWC = mx.pad(x_BHWC, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    num_images, height, width, channels = x_BHWC.shape
    row, image = width * channels, height * width * channels
    windows = mx.as_strided(
        x_BHWC,
        (num_images, rows, columns, size, size, channels),
        (image, stride * row, stride * channels, row, channels, 1),
    )
    return windows.reshape(-1, size * size * channels)


def _overlapped(
    patches_NK: mx.array, shape: tuple[int, ...], *, size: int, stride: int
) -> mx.array:
    """The sum of patches at their places in images of this shape, BHWC."""
    num_images, height, width, channels = shape
    rows, columns = _output_size(height, stride), _output_size(width, stride)
    taps = patches_NK.reshape(num_images, rows, columns, size, size, channels)
    if (size, stride) == (1, 1):
        return taps.reshape(shape)
    margin = (size - 1) // 2
    sums = mx.zeros(
        (num_images, height + 2 * margin, width + 2 * margin, channels), patches_NK.dtype
    )
    for row in range(size):
        for column in range(size):
            down = slice(row, row + (rows - 1) * stride + 1, stride)
            right = slice(column, column + (columns - 1) * stride + 1, stride)
            sums[:, down, right] = sums[:, down, right] + taps[:, :, :, row, column]
    return sums[:, margin : margin + height, margin : margin + width]
