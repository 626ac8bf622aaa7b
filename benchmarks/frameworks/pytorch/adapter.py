"""PyTorch's adapter: devices, precision, fences, memory and compilations for the worker.

It imports torch, the contract and nothing else of the harness.
"""

from __future__ import annotations

import platform
import re
import sys
from typing import Any

import numpy as np
import torch
import torch._dynamo  # optimizers would import it: here it is part of the import
import torch.nn.functional as F

from benchmarks.contract.framework import Settings

TORCH_DEVICES = {"cpu": "cpu", "cuda": "cuda", "metal": "mps"}
"""Torch's name of each device."""

COMPUTE_DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "bf16_pure": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
}
"""The dtype of the operands of convolutions and matmuls in each precision."""


class Adapter:
    """PyTorch as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        self._device = "cpu"
        self._dtype = torch.float32
        self._num_compilations = 0

    def configure(self, settings: Settings) -> None:
        """Apply the settings."""
        self._device = settings.device
        self._dtype = COMPUTE_DTYPES[settings.precision]
        torch.set_num_threads(settings.num_threads)
        _set_fp32_precision("tf32" if settings.precision == "tf32" else "ieee")
        if settings.device == "cuda":
            torch.backends.cudnn.benchmark = True  # shapes are fixed: try kernels, use the fastest
        if settings.device != "cpu":
            _limit_memory(settings)
        if settings.execution == "compiled":
            self._count_compilations()

    def devices(self) -> dict[str, int]:
        """The devices that torch sees here, with their number."""
        counts = {
            "cpu": 1,
            "cuda": torch.cuda.device_count(),
            "metal": int(torch.backends.mps.is_available()),
        }
        return {name: count for name, count in counts.items() if count}

    def put(self, array: np.ndarray) -> Any:
        """A copy of the array on the configured device, with its dtype."""
        return torch.tensor(array, device=TORCH_DEVICES[self._device])

    def get(self, value: Any) -> np.ndarray:
        """A copy on the host, contiguous; bf16 and fp16 come back as float32."""
        host = value.detach().to("cpu", copy=True)
        if host.dtype in (torch.bfloat16, torch.float16):
            host = host.float()
        return np.asarray(host.contiguous().numpy())

    def wait(self, values: Any) -> None:
        """Return when the device is idle; on the CPU each call returns after its computation."""
        del values  # synchronising a device covers every stream, hence every value
        if self._device == "cuda":
            torch.cuda.synchronize()
        elif self._device == "metal":
            torch.mps.synchronize()

    def placement(self, value: Any) -> str:
        """The kind of device that holds a tensor."""
        kind = value.device.type
        return next((name for name, own in TORCH_DEVICES.items() if own == kind), str(kind))

    def num_compilations(self) -> int:
        """Dynamo's compilations so far: forward, lazy backward, recompilation, graph recording."""
        return self._num_compilations

    def peak_memory_bytes(self) -> int | None:
        """The peak of the caching allocator's live tensors; Metal and the CPU keep no peak."""
        if self._device != "cuda":
            return None
        return int(torch.cuda.max_memory_allocated())

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b, computed and returned in the dtype of the configured precision."""
        return a.to(self._dtype) @ b.to(self._dtype)

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel, padded to the same size, BHWD."""
        images_BCHW, kernel_DCHW = images.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1)
        y_BDHW = F.conv2d(images_BCHW.to(self._dtype), kernel_DCHW.to(self._dtype), padding="same")
        return y_BDHW.permute(0, 2, 3, 1)

    def settle(self) -> None:
        """Close Inductor's pool of compile processes, and reset CUDA's peak of memory."""
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        pool = sys.modules.get("torch._inductor.async_compile")
        if pool is not None:
            pool.shutdown_compile_workers()

    def describe(self) -> dict[str, str]:
        """Versions and effective flags, read back from torch."""
        return {
            **_describe_build(),
            **_describe_precision(),
            **_describe_device(self._device),
            "products": self._products(),
        }

    def _products(self) -> str:
        """The dtype in which matmuls are computed."""
        is_emulated = self._device == "cpu" and self._dtype == torch.bfloat16
        widened = is_emulated and not multiplies_bf16()
        return dtype_name(torch.float32 if widened else self._dtype)

    def _count_compilations(self) -> None:
        # Imported here: Dynamo's import takes about a second, and only compiled programs need it.
        from torch._dynamo.callback import callback_handler

        def count(_: Any) -> None:
            self._num_compilations += 1

        callback_handler.register_start_callback(count)


def dtype_name(dtype: torch.dtype) -> str:
    """NumPy's name of a dtype, or bfloat16."""
    return str(dtype).removeprefix("torch.")


def multiplies_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; without that, bf16 is far slower than fp32.

    On x86 oneDNN reports bf16 kernels on any CPU with AVX-512, but emulates them without bf16
    units: convolutions of ResNet-50 then take three to six times as long as in fp32.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _set_fp32_precision(precision: str) -> None:
    """Set every switch explicitly: torch's defaults are IEEE in matmul but TF32 in cuDNN.

    Only the fp32_precision switches are used: a mixture with allow_tf32 is an error when read.
    https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    """
    torch.backends.fp32_precision = precision
    for switch in _fp32_switches().values():
        switch.fp32_precision = precision


def _fp32_switches() -> dict[str, Any]:
    backends = torch.backends
    return {
        "cuda.matmul": backends.cuda.matmul,
        "cudnn.conv": backends.cudnn.conv,
        "cudnn.rnn": backends.cudnn.rnn,
        "mkldnn.matmul": backends.mkldnn.matmul,
        "mkldnn.conv": backends.mkldnn.conv,
    }


def _limit_memory(settings: Settings) -> None:
    if settings.device == "cuda":
        torch.cuda.set_per_process_memory_fraction(settings.memory_fraction)
        torch.cuda.reset_peak_memory_stats()
    else:
        torch.mps.set_per_process_memory_fraction(settings.memory_fraction)


def _describe_build() -> dict[str, str]:
    # Three of the build's forty lines of compiler flags decide speed.
    build = torch.__config__.show()
    libraries = {
        "mkl": re.search(r"Math Kernel Library Version (\S+)", build),
        "onednn": re.search(r"MKL-DNN v(\S+)", build),
        "cpu_capability": re.search(r"CPU capability usage: (\S+)", build),
    }
    return {
        "torch": torch.__version__,
        **{name: found.group(1) if found else "none" for name, found in libraries.items()},
    }


def _describe_precision() -> dict[str, str]:
    return {
        f"fp32_precision.{name}": str(switch.fp32_precision)
        for name, switch in _fp32_switches().items()
    }


def _describe_device(device: str) -> dict[str, str]:
    flags = {
        "num_threads": str(torch.get_num_threads()),
        "num_interop_threads": str(torch.get_num_interop_threads()),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
    }
    if device == "cuda":
        flags["device_name"] = torch.cuda.get_device_name()
        flags["cuda"] = str(torch.version.cuda)
        flags["cudnn"] = str(torch.backends.cudnn.version())
        flags["cudnn.benchmark"] = str(torch.backends.cudnn.benchmark)
    if device == "cpu":
        flags["onednn.enabled"] = str(torch.backends.mkldnn.enabled)
        flags["cpu.bf16"] = str(multiplies_bf16())
    return flags
