"""The adapter of Keras on any backend; each backend adds its own part in a subclass.

It imports no framework: keras is imported in `configure`, after the backend has its settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.contract.framework import Framework, Settings


class Examined(NamedTuple):
    """A backend's report on a model's step."""

    gradients: str
    """Dtype of the gradients by NumPy's name, or bfloat16."""
    flop_per_step: int | None
    """The backend's own count of FLOP."""


class Training(Protocol):
    """Runs the training steps of one compiled model on its backend, without `fit`."""

    def step(self, inputs: Any, targets: Any) -> Any:
        """Enqueue Keras's train step; returns its loss, on the device."""

    def sync(self) -> None:
        """Write the state into the model's and the optimizer's variables, to read or assign them.

        The next step begins from the values that these variables then hold.
        """

    def examine(self, inputs: Any, targets: Any) -> Examined:
        """The dtypes and FLOP of a step; may take a step's time, and may change the state."""


class Inference(Protocol):
    """Runs the inference of one compiled model on its backend, without `predict`."""

    def answer(self, inputs: Any) -> Any:
        """Enqueue Keras's predict step; returns the model's output, on the device."""

    def count_flop(self, inputs: Any) -> int | None:
        """The backend's own count of FLOP for one predict step."""


class KerasFramework(ABC):
    """Keras on a backend, as the worker and the implementations see it; see `Framework`.

    Everything that Keras does not do itself is passed on to the backend's adapter.
    """

    image_format = "channels_last"
    """Keras's fastest data format for the convolutions of inference on this backend."""

    product_size = 4
    """Largest output, in pixels of height, whose convolution by a 3x3 kernel takes longer than a
    matmul of patches, in training on a CPU; oneDNN's here."""

    def __init__(self, backend: Framework, *, backend_name: str, kernel_layout: str) -> None:
        self._backend = backend
        self._backend_name = backend_name
        self.kernel_layout = kernel_layout
        """The fastest layout of a matmul's kernel: IO as in Keras, or OI if the backend computes
        the gradient of an IO kernel as OI and then transposes it."""
        self._execution = "eager"
        self._modes: dict[str, str] = {}

    @abstractmethod
    def _training(self, model: Any) -> Training:
        """Runs the steps of a `keras.Model` that is compiled and built."""

    @abstractmethod
    def _inference(self, model: Any) -> Inference:
        """Runs a `keras.Model` that is compiled and has its predict function."""

    @abstractmethod
    def fused_attention(self, shape: tuple[int, ...], dtype: str) -> str | None:
        """The name of the fused kernel of causal `keras.ops.dot_product_attention`.

        None if there is none for queries, keys and values of this BTHK shape and this dtype.
        """

    def training(self, model: Any, *, optimizer: Any, loss: Any) -> Training:
        """Runs the steps of a `keras.Model` in the configured execution; all variables are made.

        The optimizer's loss scale, if it has one, is left unchanged.
        """
        self._compile(model, optimizer=optimizer, loss=loss, auto_scale_loss=False)
        optimizer.build(model.trainable_variables)
        model.make_train_function()
        return self._training(model)

    def inference(self, model: Any) -> Inference:
        """Runs the inference of a `keras.Model` in the configured execution."""
        self._compile(model)
        model.make_predict_function()
        return self._inference(model)

    def _compile(self, model: Any, **options: Any) -> None:
        model.compile(
            run_eagerly=self._execution == "eager",
            jit_compile=self._execution == "compiled",
            **options,
        )
        # Read back: if a layer does not support XLA, Keras compiles the model without it.
        self._modes = {
            "keras.jit_compile": str(model.jit_compile),
            "keras.run_eagerly": str(model.run_eagerly),
        }

    def memory_layout(self, part: Any, images: Any) -> str:
        """NHWC or NCHW: the memory layout of the result of `part`, whose last layer convolves."""
        from benchmarks.frameworks.keras.model import LAYOUTS

        del images
        return LAYOUTS[part.layers[-1].data_format]

    def sgd(self, *, decay: float, is_decayed: Sequence[bool], **options: Any) -> Any:
        """The SGD of `benchmarks.frameworks.keras.model`, in the backend's fastest variant."""
        from benchmarks.frameworks.keras.model import SGD

        return SGD(decay=decay, is_decayed=is_decayed, **options)

    def adamw(self, constants: Mapping[str, float], *, is_decayed: Sequence[bool]) -> Any:
        """The AdamW of `benchmarks.frameworks.keras.model`, in the backend's fastest variant."""
        from benchmarks.frameworks.keras.model import AdamW

        return AdamW(constants, is_decayed=is_decayed)

    def configure(self, settings: Settings) -> None:
        """Apply the settings to the backend, then import keras and set its precision.

        Raises RuntimeError if keras was imported with another backend.
        """
        self._backend.configure(settings)
        self._execution = settings.execution
        from benchmarks.frameworks.keras import model

        model.configure(backend=self._backend_name, precision=settings.precision)

    def devices(self) -> dict[str, int]:
        """The devices that the backend sees."""
        return self._backend.devices()

    def put(self, array: np.ndarray) -> Any:
        """The array as a tensor of the backend."""
        return self._backend.put(array)

    def get(self, value: Any) -> np.ndarray:
        """A copy of a tensor of the backend on the host."""
        return self._backend.get(value)

    def wait(self, values: Any) -> None:
        """Return when these tensors are computed and the device is idle."""
        self._backend.wait(values)

    def placement(self, value: Any) -> str:
        """The kind of device that holds a tensor."""
        return self._backend.placement(value)

    def num_compilations(self) -> int | None:
        """The backend's compilations so far: Keras itself compiles nothing."""
        return self._backend.num_compilations()

    def peak_memory_bytes(self) -> int | None:
        """The backend's peak of memory."""
        return self._backend.peak_memory_bytes()

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b by the backend."""
        return self._backend.matmul(a, b)

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution by the backend's operation, which Keras's layers call."""
        return self._backend.convolve(images, kernel)

    def settle(self) -> None:
        """Settle the backend."""
        self._backend.settle()

    def describe(self) -> dict[str, str]:
        """Versions and flags of the backend and of Keras, and how the last model was compiled."""
        from benchmarks.frameworks.keras import model

        return {**self._backend.describe(), **model.describe(), **self._modes}
