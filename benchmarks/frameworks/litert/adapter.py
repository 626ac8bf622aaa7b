"""LiteRT's adapter: interpreters, values, precision and placement for the worker.

It imports ai_edge_litert, the contract and nothing else of the harness. Values are NumPy arrays:
LiteRT copies its inputs into tensors of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from benchmarks.contract.framework import Settings

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3


class Adapter:
    """LiteRT as the worker and the implementations see it; see `Framework`."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._num_interpreters = 0
        self._operations = ""
        self._last: tuple[bytes, Any] | None = None
        """The last self-test model, and its interpreter."""

    def configure(self, settings: Settings) -> None:
        """Take the settings for all interpreters made later."""
        self._settings = settings

    def devices(self) -> dict[str, int]:
        """The CPU, with XNNPACK's kernels; LiteRT's GPU delegates do not support desktops."""
        return {"cpu": 1}

    def interpreter(self, model: bytes) -> Any:
        """An interpreter of this model with the configured threads, its tensors allocated."""
        assert self._settings is not None, "configure must come before interpreter"
        made = Interpreter(model_content=model, num_threads=self._settings.num_threads)
        made.allocate_tensors()
        self._num_interpreters += 1
        names = Counter(one["op_name"] for one in made._get_ops_details())
        self._operations = ", ".join(f"{name} {number}" for name, number in names.most_common())
        return made

    def put(self, array: np.ndarray) -> Any:
        """A copy of the array."""
        return np.array(array, order="C")

    def get(self, value: Any) -> np.ndarray:
        """A copy of the array; fp16 comes back as float32."""
        host = np.array(value)
        return host.astype(np.float32) if host.dtype == np.float16 else host

    def wait(self, values: Any) -> None:
        """Do nothing: `invoke` returns when its outputs are computed."""

    def placement(self, value: Any) -> str:
        """The CPU, since values are NumPy arrays."""
        return "cpu" if isinstance(value, np.ndarray) else type(value).__name__

    def num_compilations(self) -> int:
        """Interpreters made so far: making one chooses kernels and packs weights."""
        return self._num_interpreters

    def peak_memory_bytes(self) -> int | None:
        """None: LiteRT keeps no peak of memory."""
        return None

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b by a model of one matmul, float32."""
        return self._answer(_matmul_model(a.shape, b.shape), [a, b])

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel, padded to the same size, BHWD."""
        kernel_DHWC = np.ascontiguousarray(kernel.transpose(3, 0, 1, 2))
        return self._answer(_convolution_model(images.shape, kernel_DHWC), [images])

    def settle(self) -> None:
        """Do nothing: LiteRT compiles nothing, and keeps no peak of memory."""

    def describe(self) -> dict[str, str]:
        """The version, the threads, and the operations of the last model."""
        assert self._settings is not None
        return {
            "ai-edge-litert": metadata.version("ai-edge-litert"),
            "num_threads": str(self._settings.num_threads),
            "operations": self._operations,
            "products": "float32",
        }

    def _answer(self, model: bytes, inputs: Sequence[np.ndarray]) -> np.ndarray:
        made = self._known(model)
        for detail, value in zip(made.get_input_details(), inputs):
            made.set_tensor(detail["index"], value)
        made.invoke()
        return np.asarray(made.get_tensor(made.get_output_details()[0]["index"]))

    def _known(self, model: bytes) -> Any:
        """The interpreter of a self-test model, made once."""
        if self._last is None or self._last[0] != model:
            self._last = (model, self.interpreter(model))
        return self._last[1]


class _Operation(NamedTuple):
    """An operation of a model that the adapter writes itself."""

    code: int
    options_type: int
    options: Any
    inputs: list[int]
    """Positions among the tensors."""


def _matmul_model(left: tuple[int, ...], right: tuple[int, ...]) -> bytes:
    options = schema.BatchMatMulOptionsT()
    operation = _Operation(
        schema.BuiltinOperator.BATCH_MATMUL,
        schema.BuiltinOptions.BatchMatMulOptions,
        options,
        inputs=[0, 1],
    )
    return _model([left, right], (left[0], right[1]), operation)


def _convolution_model(images: tuple[int, ...], kernel_DHWC: np.ndarray) -> bytes:
    """A model of a convolution of stride 1, for which SAME is symmetric padding."""
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideH = options.strideW = 1
    options.dilationHFactor = options.dilationWFactor = 1
    num_outputs = kernel_DHWC.shape[0]
    operation = _Operation(
        schema.BuiltinOperator.CONV_2D,
        schema.BuiltinOptions.Conv2DOptions,
        options,
        inputs=[0, 1, 2],
    )
    constants = [kernel_DHWC, np.zeros(num_outputs, np.float32)]
    return _model([images], (*images[:3], num_outputs), operation, constants)


def _model(
    inputs: Sequence[tuple[int, ...]],
    output: tuple[int, ...],
    operation: _Operation,
    constants: Sequence[np.ndarray] = (),
) -> bytes:
    """A model of one operation on float32: its inputs, its constants, its output, in this order.

    https://github.com/google-ai-edge/LiteRT, tflite/converter/schema/schema.fbs.
    """
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version = SCHEMA_VERSION
    model.buffers = [schema.BufferT()]  # by convention the first one is empty
    graph.tensors = [_tensor(shape) for shape in inputs]
    for array in constants:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        graph.tensors.append(_tensor(array.shape, buffer=len(model.buffers)))
        model.buffers.append(buffer)
    graph.tensors.append(_tensor(output))
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operation.code
    code.version = 1
    node = schema.OperatorT()
    node.opcodeIndex, node.inputs = 0, operation.inputs
    node.outputs = [len(graph.tensors) - 1]
    node.builtinOptionsType, node.builtinOptions = operation.options_type, operation.options
    graph.inputs, graph.outputs = list(range(len(inputs))), node.outputs
    graph.operators = [node]
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def _tensor(shape: Sequence[int], *, buffer: int = 0) -> Any:
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = list(shape), schema.TensorType.FLOAT32, buffer
    return tensor
