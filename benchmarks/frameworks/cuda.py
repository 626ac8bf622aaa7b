"""Asks CUDA's driver for a GPU's memory, for frameworks with memory limits in bytes.

Standard library only.
"""

from __future__ import annotations

import ctypes


def memory_bytes() -> int:
    """The memory of the first GPU; OSError without a driver, RuntimeError if the driver fails.

    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html
    """
    driver = ctypes.CDLL("libcuda.so.1")
    device, num_bytes = ctypes.c_int(), ctypes.c_size_t()
    _check(driver.cuInit(0), "cuInit")
    _check(driver.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    _check(driver.cuDeviceTotalMem_v2(ctypes.byref(num_bytes), device), "cuDeviceTotalMem")
    return num_bytes.value


def _check(status: int, call: str) -> None:
    if status != 0:
        raise RuntimeError(f"{call} returned CUresult {status}, expected 0")
