"""TensorFlow's adapter: devices, precision, fences, memory and compilations for the worker.

It imports tensorflow, the contract and nothing else of the harness.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

# TensorFlow 2.21 has no public names for these four; they were found in its source.
from tensorflow.python.eager.polymorphic_function import transform
from tensorflow.python.framework import config as tf_config
from tensorflow.python.framework import ops
from tensorflow.python.util import _pywrap_util_port

from benchmarks.contract.framework import Settings
from benchmarks.frameworks import cuda
from benchmarks.frameworks.tensorflow import CAPABILITIES, XLA_CACHE

DEVICE_TYPES = {"cpu": "CPU", "cuda": "GPU", "tpu": "TPU"}
"""TensorFlow's name of each device."""

COMPUTE_DTYPES = {
    "fp32": tf.float32,
    "tf32": tf.float32,
    "bf16": tf.bfloat16,
    "bf16_pure": tf.bfloat16,
    "fp16": tf.float16,
    "fp64": tf.float64,
}
"""The dtype of the operands of convolutions and matmuls in each precision."""

CPU_INFO = Path("/proc/cpuinfo")

REPORTED_VARIABLES = (
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
    "OMP_NUM_THREADS",
    "TF_GPU_THREAD_MODE",
    "TF_GPU_THREAD_COUNT",
    "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT",
)


class Adapter:
    """TensorFlow as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        self._device = "cpu"
        self._dtype = tf.float32
        self._num_traces = 0
        self._scope = contextlib.ExitStack()

    def configure(self, settings: Settings) -> None:
        """Apply the settings; TensorFlow raises RuntimeError if it has computed before."""
        self._device = settings.device
        self._dtype = COMPUTE_DTYPES[settings.precision]
        tf.config.threading.set_intra_op_parallelism_threads(settings.num_threads)
        # A layer's two gradients and the updates of all parameters do not depend on one another. On
        # a CPU they run side by side, as by default; a GPU runs them in one stream.
        num_inter_op_threads = settings.num_threads if settings.device == "cpu" else 1
        tf.config.threading.set_inter_op_parallelism_threads(num_inter_op_threads)
        # TF32 is on by default. The switch also decides how many passes a TPU makes for float32.
        tf.config.experimental.enable_tensor_float_32_execution(settings.precision == "tf32")
        (Path(settings.cache_folder) / XLA_CACHE).mkdir(parents=True, exist_ok=True)
        self._prepare_device(settings)
        transform.CONCRETE_FUNCTION_CALLBACKS.append(self._count_trace)

    def devices(self) -> dict[str, int]:
        """The devices that TensorFlow sees here, with their number."""
        counts = {
            name: len(tf.config.list_physical_devices(kind)) for name, kind in DEVICE_TYPES.items()
        }
        return {name: count for name, count in counts.items() if count}

    def put(self, array: np.ndarray) -> Any:
        """A copy of the array on the configured device, with its dtype.

        TensorFlow keeps int32 arrays in host memory for a GPU, as its kernels expect.
        """
        return tf.constant(array)

    def get(self, value: Any) -> np.ndarray:
        """A copy of a tensor or variable on the host; bf16 and fp16 come back as float32."""
        host = np.asarray(value.numpy())  # numpy() copies, and returns scalars as such
        return host.astype(np.float32) if host.dtype.itemsize == 2 else host

    def wait(self, values: Any) -> None:
        """Return when these values are computed and every stream of the device is idle."""
        if self._device in CAPABILITIES.asynchronous_devices:
            for value in tf.nest.flatten(values):
                if value is not None:
                    _read_one_element(value)
        if self._device != "tpu":  # a TPU has no SyncDevice kernel; its programs end as a whole
            tf.test.experimental.sync_devices()

    def placement(self, value: Any) -> str:
        """The kind of device that holds a tensor."""
        kind = tf.DeviceSpec.from_string(value.backing_device).device_type
        return next((name for name, own in DEVICE_TYPES.items() if own == kind), str(kind))

    def num_compilations(self) -> int:
        """Functions traced so far, retracing included.

        XLA compiles once for each trace, since the shapes of a traced step are static.
        """
        return self._num_traces

    def peak_memory_bytes(self) -> int | None:
        """The peak of the device's allocator; TensorFlow keeps none for the CPU."""
        if self._device == "cpu":
            return None
        return int(
            tf.config.experimental.get_memory_info(f"{DEVICE_TYPES[self._device]}:0")["peak"]
        )

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b, computed and returned in the dtype of the configured precision."""
        return tf.matmul(tf.cast(a, self._dtype), tf.cast(b, self._dtype))

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel, padded to the same size, BHWD."""
        images, kernel = tf.cast(images, self._dtype), tf.cast(kernel, self._dtype)
        return tf.nn.conv2d(images, kernel, strides=1, padding="SAME")

    def settle(self) -> None:
        """Reset CUDA's peak of memory; TensorFlow's compile threads are idle after warm-up."""
        if self._device == "cuda":
            tf.config.experimental.reset_memory_stats("GPU:0")

    def describe(self) -> dict[str, str]:
        """Versions and effective flags, read back from TensorFlow."""
        threading = tf.config.threading
        return {
            **_describe_build(),
            "num_threads": str(threading.get_intra_op_parallelism_threads()),
            "num_interop_threads": str(threading.get_inter_op_parallelism_threads()),
            "tf32": str(tf.config.experimental.tensor_float_32_execution_enabled()),
            "onednn": str(_pywrap_util_port.IsMklEnabled()),
            "cpu.bf16": str(multiplies_bf16()),
            "xla_autoclustering": str(bool(tf.config.optimizer.get_jit())),
            "deterministic": str(tf_config.is_op_determinism_enabled()),
            "grappler": str(tf.config.optimizer.get_experimental_options()),
            **{name: os.environ.get(name, "") for name in REPORTED_VARIABLES},
            **_describe_device(self._device),
            "products": self._products(),
        }

    def _products(self) -> str:
        """The dtype in which matmuls are computed."""
        is_emulated = self._device == "cpu" and self._dtype == tf.bfloat16
        return "float32" if is_emulated and not multiplies_bf16() else str(self._dtype.name)

    def _prepare_device(self, settings: Settings) -> None:
        if settings.device != "cuda":
            tf.config.set_visible_devices([], "GPU")  # else TensorFlow places everything there
        if settings.device == "cuda" and settings.memory_fraction < 1.0:
            _limit_cuda_memory(settings.memory_fraction)
        if settings.device == "tpu":
            tf.tpu.experimental.initialize_tpu_system(
                tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
            )
            # By default nothing is placed on a TPU; this scope lasts until the process ends.
            self._scope.enter_context(tf.device("/TPU:0"))

    def _count_trace(self, _: Any) -> None:
        self._num_traces += 1


def count_flop(graph: Any) -> int:
    """TensorFlow's own count of a graph's FLOP, including elementwise operations that it knows.

    The count is a little too high for gradients of strided and padded convolutions, and includes
    the unused gradient with respect to the first layer's input. For a batched matmul with
    transposed left matrices it is wrong, unless these are square, as in attention.
    """
    counts = (
        ops.get_stats_for_node_def(graph, one.node_def, "flops").value
        for one in graph.get_operations()
    )
    return int(sum(count or 0 for count in counts))


def multiplies_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; without that, bf16 is far slower than fp32.

    With AVX-512, TensorFlow 2.21 always uses oneDNN's bf16 (IsBF16SupportedByOneDNNOnThisCPU in
    tensorflow/core/util/util.cc), which without bf16 units is emulated, at twice the time.
    """
    if platform.machine() != "x86_64" or not CPU_INFO.exists():
        return True
    flags = set(CPU_INFO.read_text().split())
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def _limit_cuda_memory(fraction: float) -> None:
    """Limit the allocator of the first GPU to a share of its memory."""
    gpu = tf.config.list_physical_devices("GPU")[0]
    limit_mib = int(fraction * cuda.memory_bytes() / 2**20)
    tf.config.set_visible_devices([gpu], "GPU")
    tf.config.set_logical_device_configuration(
        gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=limit_mib)]
    )


def _read_one_element(value: Any) -> None:
    """Copy one element to the host, which waits for the value."""
    one = value if value.shape.rank == 0 else tf.reshape(value, (-1,))[0]
    one.numpy()


def _describe_build() -> dict[str, str]:
    build = tf.sysconfig.get_build_info()
    reported = ("is_cuda_build", "cuda_version", "cudnn_version", "is_rocm_build")
    return {
        "tensorflow": tf.__version__,
        "git_version": tf.version.GIT_VERSION,
        "compiler": tf.version.COMPILER_VERSION,
        "numpy": np.__version__,
        **{name: str(build[name]) for name in reported if name in build},
    }


def _describe_device(device: str) -> dict[str, str]:
    if device != "cuda":
        return {}
    gpu = tf.config.list_physical_devices("GPU")[0]
    details = tf.config.experimental.get_device_details(gpu)
    limits = tf.config.get_logical_device_configuration(gpu)
    return {
        "device_name": str(details.get("device_name")),
        "compute_capability": str(details.get("compute_capability")),
        "memory_limit_mib": str(limits[0].memory_limit if limits else None),
    }
