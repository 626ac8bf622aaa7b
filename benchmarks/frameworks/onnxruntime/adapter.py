"""ONNX Runtime's adapter: sessions, values, precision and placement for the worker.

It imports onnxruntime, onnx, the contract and nothing else of the harness.
"""

from __future__ import annotations

from typing import Any, Union

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from benchmarks.contract.framework import Settings
from benchmarks.frameworks import cuda

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""ONNX Runtime's execution provider for each device."""
SELF_TEST_OPSET, SELF_TEST_IR = 20, 10
"""Versions of the self-test's models, which every pinned version of ONNX Runtime supports."""

Model = Union[str, bytes]
"""A model file's path, or a serialised model."""


class Adapter:
    """ONNX Runtime as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        self._device = "cpu"
        self._settings: Settings | None = None
        self._num_sessions = 0
        self._products: dict[str, Any] = {}

    def configure(self, settings: Settings) -> None:
        """Take the settings for all sessions made later."""
        self._device, self._settings = settings.device, settings
        ort.set_default_logger_severity(3)  # errors only
        if settings.device == "cuda" and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA and cuDNN from pip's packages, not found by default

    def devices(self) -> dict[str, int]:
        """The devices whose provider this build has; one GPU at most."""
        available = ort.get_available_providers()
        return {device: 1 for device, provider in PROVIDERS.items() if provider in available}

    def session(self, model: Model, *, optimised_to: str | None = None) -> Any:
        """An `InferenceSession` of this model with the configured threads and precision.

        If `optimised_to` is given, the optimised graph is written to that file. Threads spin
        between requests, as by default: a closed loop leaves no pause to sleep in.
        """
        assert self._settings is not None, "configure must come before session"
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._settings.num_threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        if optimised_to is not None:
            options.optimized_model_filepath = optimised_to
        wanted = PROVIDERS[self._device]
        if self._device != "cpu":  # else unsupported operations silently run on the CPU
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self._num_sessions += 1
        made = ort.InferenceSession(model, options, providers=[self._provider()])
        if made.get_providers()[0] != wanted:
            raise RuntimeError(
                f"the session runs on {made.get_providers()[0]}, expected {wanted}: this build has"
                " it, but could not load it (https://onnxruntime.ai/docs/install/#requirements)"
            )
        return made

    def put(self, array: np.ndarray) -> Any:
        """A copy of the array as an OrtValue on the configured device."""
        # Copied, since on the CPU a value shares the array's memory.
        return ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C"), self._device, 0)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An OrtValue of this shape and NumPy dtype on the configured device, for outputs."""
        return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, self._device, 0)

    def get(self, value: Any) -> np.ndarray:
        """A copy on the host; fp16 comes back as float32."""
        host = np.array(value.numpy())
        return host.astype(np.float32) if host.dtype == np.float16 else host

    def wait(self, values: Any) -> None:
        """Do nothing: a run returns when its outputs are computed, on either device.

        This holds unless `disable_synchronize_execution_providers` is set; no run here sets it.
        """

    def placement(self, value: Any) -> str:
        """The kind of device that holds a value."""
        return str(value.device_name())

    def num_compilations(self) -> int:
        """Sessions made so far: making one optimises the graph and chooses kernels."""
        return self._num_sessions

    def peak_memory_bytes(self) -> int | None:
        """None: ONNX Runtime's arenas keep no peak that Python can read."""
        return None

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b by a session of one matmul, float32."""
        return self._product("matmul", _matmul_model, a, b)

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel, padded to the same size, BHWD."""
        return self._product("convolve", _convolution_model, images, kernel)

    def settle(self) -> None:
        """Do nothing: ONNX Runtime compiles nothing, and keeps no peak of memory."""

    def describe(self) -> dict[str, str]:
        """Versions, and the settings of sessions; `products` is the dtype if not int8."""
        assert self._settings is not None
        return {
            "onnxruntime": ort.__version__,
            "onnx": onnx.__version__,
            "build": " ".join(ort.get_build_info().split()),
            "provider": PROVIDERS[self._device],
            "num_threads": str(self._settings.num_threads),
            "num_interop_threads": "1",
            "graph_optimization_level": "ORT_ENABLE_ALL",
            "products": "float32",
        }

    def _provider(self) -> Any:
        assert self._settings is not None
        name = PROVIDERS[self._device]
        if self._device == "cpu":
            return name
        # https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
        options = {
            "use_tf32": str(int(self._settings.precision == "tf32")),
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "cudnn_conv_use_max_workspace": "1",
        }
        if self._settings.memory_fraction != 1.0:
            limit = int(self._settings.memory_fraction * cuda.memory_bytes())
            options["gpu_mem_limit"] = str(limit)
        return name, options

    def _product(self, name: str, model: Any, left: Any, right: Any) -> Any:
        if name not in self._products:
            self._products[name] = self.session(model().SerializeToString())
        binding = self._products[name].io_binding()
        binding.bind_ortvalue_input("a", left)
        binding.bind_ortvalue_input("b", right)
        binding.bind_output("y", self._device)  # unbound outputs are copied to the host
        self._products[name].run_with_iobinding(binding)
        return binding.get_outputs()[0]


def _matmul_model() -> Any:
    return _model([helper.make_node("MatMul", ["a", "b"], ["y"])], ranks={"a": 2, "b": 2, "y": 2})


def _convolution_model() -> Any:
    """A model of a convolution; ONNX's is NCHW, so images and result are transposed."""
    nodes = [
        helper.make_node("Transpose", ["a"], ["a_BCHW"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", ["b"], ["b_DCHW"], perm=[3, 2, 0, 1]),
        helper.make_node("Conv", ["a_BCHW", "b_DCHW"], ["y_BDHW"], auto_pad="SAME_UPPER"),
        helper.make_node("Transpose", ["y_BDHW"], ["y"], perm=[0, 2, 3, 1]),
    ]
    return _model(nodes, ranks={"a": 4, "b": 4, "y": 4})


def _model(nodes: list[Any], *, ranks: dict[str, int]) -> Any:
    """A model from a and b to y, float32, of any sizes."""
    values = {
        name: helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [f"{name}{axis}" for axis in range(rank)]
        )
        for name, rank in ranks.items()
    }
    graph = helper.make_graph(nodes, "self_test", [values["a"], values["b"]], [values["y"]])
    opset = helper.make_opsetid("", SELF_TEST_OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=SELF_TEST_IR)
