"""OpenVINO's adapter: compiled models, tensors, precision and placement for the worker.

It imports openvino, the contract and nothing else of the harness.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as operations

from benchmarks.contract.framework import Settings

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""The precision of a model's floating-point operations; a quantised model defines its integer ones
itself. The default is bf16 if the CPU has it, whatever the model's precision.
https://docs.openvino.ai/2026/openvino-workflow/running-inference/optimize-inference/precision-control.html"""
DTYPES = {"f32": "float32", "bf16": "bfloat16"}


class Adapter:
    """OpenVINO as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        self._core = ov.Core()
        self._settings: Settings | None = None
        self._num_compilations = 0
        self._effective: dict[str, str] = {}
        self._matmul: Any = None

    def configure(self, settings: Settings) -> None:
        """Take the settings for all models compiled later."""
        self._settings = settings

    def devices(self) -> dict[str, int]:
        """The CPU, if its plugin is installed."""
        return {"cpu": 1} if "CPU" in self._core.available_devices else {}

    def compile(self, model: Any) -> Any:
        """Compile a model, or a model file, for one request at a time.

        One stream with all threads; https://docs.openvino.ai/2026/openvino-workflow/running-inference/
        optimize-inference/high-level-performance-hints.html.
        """
        settings = self._settings
        assert settings is not None, "configure must come before compile"
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": settings.num_threads,
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[settings.precision],
        }
        self._num_compilations += 1
        compiled = self._core.compile_model(model, "CPU", options)
        self._effective = {
            name: str(compiled.get_property(name))
            for name in (*options, "ENABLE_CPU_PINNING", "EXECUTION_MODE_HINT")
        }
        return compiled

    def put(self, array: np.ndarray) -> Any:
        """A copy of the array as a tensor."""
        return ov.Tensor(np.array(array, order="C"), shared_memory=False)

    def get(self, value: Any) -> np.ndarray:
        """A copy of a tensor on the host; bf16 and fp16 come back as float32."""
        host = np.array(value.data)
        return host.astype(np.float32) if host.dtype.itemsize == 2 else host

    def wait(self, values: Any) -> None:
        """Do nothing: `infer` returns when its outputs are computed."""

    def placement(self, value: Any) -> str:
        """The CPU, the only device here: no remote tensor is ever made."""
        return "cpu" if isinstance(value, ov.Tensor) else type(value).__name__

    def num_compilations(self) -> int:
        """Models compiled so far."""
        return self._num_compilations

    def peak_memory_bytes(self) -> int | None:
        """None: OpenVINO keeps no peak of memory."""
        return None

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b by a model of one matmul, compiled once for all sizes."""
        if self._matmul is None:
            left, right = (operations.parameter([-1, -1], np.float32) for _ in range(2))
            product = operations.matmul(left, right, False, False)
            self._matmul = self.compile(ov.Model([product], [left, right], "matmul"))
        return _answer(self._matmul, a, b)

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel, padded to the same size, BHWD."""
        images_BCHW = np.ascontiguousarray(images.data.transpose(0, 3, 1, 2))
        kernel_DCHW = np.ascontiguousarray(kernel.data.transpose(3, 2, 0, 1))
        margin = (kernel_DCHW.shape[2] - 1) // 2
        parameter = operations.parameter(list(images_BCHW.shape), np.float32)
        constant = operations.constant(kernel_DCHW)
        padding = [margin, margin]
        result = operations.convolution(parameter, constant, [1, 1], padding, padding, [1, 1])
        compiled = self.compile(ov.Model([result], [parameter], "convolution"))
        y_BDHW = _answer(compiled, ov.Tensor(images_BCHW)).data
        return self.put(y_BDHW.transpose(0, 2, 3, 1))

    def settle(self) -> None:
        """Do nothing: OpenVINO compiles only when a model is loaded, and keeps no memory peak."""

    def describe(self) -> dict[str, str]:
        """Versions, and the properties of the last compiled model, read back."""
        assert self._settings is not None
        hint = self._effective.get("INFERENCE_PRECISION_HINT", "<Type: 'float32'>")
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        is_bf16 = "bfloat16" in hint and "BF16" in capabilities  # without BF16 it is emulated
        return {
            "openvino": ov.__version__,
            "cpu": str(self._core.get_property("CPU", "FULL_DEVICE_NAME")),
            "capabilities": " ".join(capabilities),
            "num_threads": self._effective.get("INFERENCE_NUM_THREADS", ""),
            **self._effective,
            "products": "bfloat16" if is_bf16 else "float32",
        }


def _answer(compiled: Any, *tensors: Any) -> Any:
    """The first output of a new request, so that no later request overwrites it."""
    request = compiled.create_infer_request()
    for index, tensor in enumerate(tensors):
        request.set_input_tensor(index, tensor)
    request.infer()
    return request.get_output_tensor(0)
