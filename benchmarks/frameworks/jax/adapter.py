"""JAX's adapter: devices, precision, fences, memory and compilations for the worker.

It imports jax, the contract and nothing else of the harness.
"""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import numpy as np

from benchmarks.contract.framework import Settings
from benchmarks.frameworks.jax import CAPABILITIES

DEVICE_KINDS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
"""Our name of each of JAX's platforms."""

COMPUTE_DTYPES = {
    "fp32": np.dtype("float32"),
    "tf32": np.dtype("float32"),
    "bf16": np.dtype(jax.numpy.bfloat16),
    "bf16_pure": np.dtype(jax.numpy.bfloat16),
    "fp16": np.dtype("float16"),
    "fp64": np.dtype("float64"),
}
"""The dtype of the operands of convolutions and matmuls in each precision."""

MATMUL_PRECISIONS = {
    # Always set: the default is TF32 on recent NVIDIA chips and single bf16 passes on TPU.
    # https://docs.jax.dev/en/latest/_autosummary/jax.default_matmul_precision.html
    "fp32": "float32",
    "tf32": "tensorfloat32",
    "bf16": "default",
    "bf16_pure": "default",
    "fp16": "default",
    "fp64": "float32",
}
"""jax_default_matmul_precision, which affects operands of 32 bits only."""

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
"""JAX's event for each program that is compiled or loaded from the cache."""

REPORTED_FLAGS = (
    "jax_default_matmul_precision",
    "jax_enable_x64",
    "jax_platforms",
    "jax_cpu_enable_async_dispatch",
    "jax_optimization_level",
    "jax_disable_most_optimizations",
    "jax_enable_compilation_cache",
    "jax_debug_nans",
    "jax_disable_jit",
)


class Adapter:
    """JAX as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        self._device: Any = None
        self._dtype = np.dtype("float32")
        self._num_compilations = 0
        self._matmul = jax.jit(self._product)
        self._convolve = jax.jit(self._convolution)

    def configure(self, settings: Settings) -> None:
        """Apply the precision; the other settings are in the environment since jax was imported."""
        jax.config.update("jax_default_matmul_precision", MATMUL_PRECISIONS[settings.precision])
        self._dtype = COMPUTE_DTYPES[settings.precision]
        self._device = jax.local_devices()[0]
        jax.monitoring.register_event_duration_secs_listener(self._count_compilation)

    def devices(self) -> dict[str, int]:
        """The devices that JAX sees here, with their number; the CPU is always one of them."""
        kinds = [DEVICE_KINDS.get(device.platform) for device in jax.local_devices()]
        counts = collections.Counter(kind for kind in kinds if kind is not None)
        return {"cpu": 1, **counts}

    def put(self, array: np.ndarray) -> Any:
        """A copy of the array on the configured device, with its dtype."""
        # Copied by NumPy, since JAX on the CPU may take an array's memory over, whatever may_alias
        # says. Not committed to a named device (it is the default one): a step whose state mixes
        # committed and uncommitted arrays is compiled again for the state that it returns.
        return jax.device_put(np.array(array))

    def get(self, value: Any) -> np.ndarray:
        """A copy on the host; bf16 and fp16 come back as float32."""
        host = np.array(value)
        return host.astype(np.float32) if host.dtype.itemsize == 2 else host

    def wait(self, values: Any) -> None:
        """Return when every array in this tree is computed, and so the whole program."""
        jax.block_until_ready(values)

    def placement(self, value: Any) -> str:
        """The kind of device that holds an array, or the first array of a tree."""
        (device, *_) = jax.tree.leaves(value)[0].devices()
        return DEVICE_KINDS.get(device.platform, str(device.platform))

    def num_compilations(self) -> int:
        """Programs compiled so far or loaded from the cache, recompilations included."""
        return self._num_compilations

    def peak_memory_bytes(self) -> int | None:
        """The peak of the device's allocator; the CPU keeps no statistics."""
        statistics = self._device.memory_stats()
        return None if statistics is None else statistics.get("peak_bytes_in_use")

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b, computed and returned in the dtype of the configured precision."""
        return self._matmul(a, b)

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel, padded to the same size, BHWD."""
        return self._convolve(images, kernel)

    def settle(self) -> None:
        """Do nothing: XLA compiles within the call, and JAX cannot reset its memory peak."""

    def describe(self) -> dict[str, str]:
        """Versions and effective flags, read back from JAX."""
        return {
            **{name: metadata.version(name) for name in CAPABILITIES.distributions},
            **{name: str(jax.config.values[name]) for name in REPORTED_FLAGS},
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
            "PJRT_NPROC": os.environ.get("PJRT_NPROC", ""),
            "device_kind": self._device.device_kind,
            "platform_version": " ".join(self._device.client.platform_version.split()),
            "products": self._products(),
        }

    def _products(self) -> str:
        """The dtype in which matmuls are computed: XLA on the CPU widens bf16 to float32."""
        is_widened = self._device.platform == "cpu" and self._dtype == COMPUTE_DTYPES["bf16"]
        return "float32" if is_widened else str(self._dtype)

    def _product(self, a: Any, b: Any) -> Any:
        return a.astype(self._dtype) @ b.astype(self._dtype)

    def _convolution(self, images: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(
            images.astype(self._dtype),
            kernel.astype(self._dtype),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def _count_compilation(self, event: str, duration_s: float, **_: Any) -> None:
        del duration_s
        if event == COMPILE_EVENT:
            self._num_compilations += 1


def count_flop(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOP of the convolutions and matmuls in a function's trace.

    XLA's own count leaves out products with padding: more than half of a 3x3 convolution on 2x2
    pixels. Zeros between pixels, in the gradient of a strided convolution, do not count; if the
    stride does not divide the image's size, a few pixels are missed. The most expensive branch of a
    `cond` counts. Operations that the backward pass repeats count again.
    """
    return _flop(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flop(jaxpr: Any) -> int:
    # Imported here: JAX before 0.10 lacks it, and then only the count fails, not the launch.
    from jax.extend.core import jaxprs_in_params

    total = 0
    for operation in jaxpr.eqns:
        name, parameters = operation.primitive.name, operation.params
        if name in ("conv_general_dilated", "dot_general"):
            total += 2 * _num_products(operation)
        else:
            inner = [_flop(one) for one in jaxprs_in_params(parameters)]
            once = max(inner, default=0) if name == "cond" else sum(inner)
            total += once * (parameters["length"] if name == "scan" else 1)
    return total


def _num_products(operation: Any) -> int:
    """The number of products of two elements in a convolution or a matmul."""
    left, right = (variable.aval.shape for variable in operation.invars[:2])
    size = math.prod(operation.outvars[0].aval.shape)
    dimensions = operation.params["dimension_numbers"]
    if operation.primitive.name == "dot_general":
        (contracted, _), _ = dimensions
        return int(size * math.prod(left[index] for index in contracted))
    zeros = math.prod(operation.params["lhs_dilation"])
    return int(size * math.prod(right) // right[dimensions.rhs_spec[0]] // zeros)
