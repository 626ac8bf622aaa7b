"""Keras on PyTorch: PyTorch's adapter, and Keras's train function on its tensors.

It imports torch, the contract and the part that Keras's frameworks share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn.attention import SDPBackend
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.frameworks.keras import LAST_LOSS
from benchmarks.frameworks.keras.framework import (
    Examined,
    Inference,
    KerasFramework,
    Training,
)
from benchmarks.frameworks.pytorch import adapter as pytorch_adapter

FUSED = {
    backend: f"sdpa {backend.name.lower()}"
    for backend in (
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
    )
}
"""The name of each of torch's fused kernels for attention."""


class Adapter(KerasFramework):
    """Keras on PyTorch as the worker and the implementations see it; see `Framework`."""

    image_format = "channels_first"  # torch's own format, so that Keras transposes no images

    def __init__(self) -> None:
        super().__init__(pytorch_adapter.Adapter(), backend_name="torch", kernel_layout="OI")

    def memory_layout(self, part: Any, images: Any) -> str:
        """The memory layout of torch's result: channels first may be a view of NHWC."""
        with torch.inference_mode():
            convolved = part(images)
        is_last = convolved.is_contiguous(memory_format=torch.channels_last)
        return "NHWC" if is_last else "NCHW"

    def adamw(self, constants: Mapping[str, float], *, is_decayed: Sequence[bool]) -> Any:
        """AdamW that updates all variables at once."""
        from benchmarks.frameworks.keras.model import AdamW

        return AdamW(constants, is_decayed=is_decayed, update_together=_update_together)

    def fused_attention(self, shape: tuple[int, ...], dtype: str) -> str | None:
        """Flash attention if Keras selects it, else the kernel that torch selects.

        Keras 3.15, dot_product_attention in keras/src/backend/torch/nn.py.
        """
        batch_size, length, num_heads, dimension = shape
        device = self.put(np.zeros(())).device
        heads = torch.empty(
            (3, batch_size, num_heads, length, dimension),
            dtype=getattr(torch, dtype),
            device=device,
            requires_grad=True,
        ).unbind()
        if can_use_flash_attention(SDPAParams(*heads, None, 0.0, True, False)):
            return FUSED[SDPBackend.FLASH_ATTENTION]
        return FUSED.get(SDPBackend(torch._fused_sdp_choice(*heads, is_causal=True)))

    def _training(self, model: Any) -> Training:
        return TorchTraining(model)

    def _inference(self, model: Any) -> Inference:
        return TorchInference(model)


class TorchInference:
    """Keras's predict function, which takes the first of a list of batches."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def answer(self, inputs: Any) -> Any:
        """Enqueue one predict step; returns the model's output."""
        return self._model.predict_function([(inputs,)])

    def count_flop(self, inputs: Any) -> int:
        """FLOP of the matmuls and convolutions of an eager step."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self._model.predict_step((inputs,))
        return int(counter.get_total_flops())


class TorchTraining:
    """Keras's train function, which takes the first of a list of batches."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def step(self, inputs: Any, targets: Any) -> Any:
        """Enqueue one train step; returns its loss."""
        return self._model.train_function([(inputs, targets)])[LAST_LOSS]

    def sync(self) -> None:
        """Do nothing: the step changes the variables themselves."""

    def examine(self, inputs: Any, targets: Any) -> Examined:
        """The dtypes and FLOP of an eager step, which changes the state; matmuls etc. only."""
        with FlopCounterMode(display=False, custom_mapping=_formulas()) as counter:
            self._model.train_step((inputs, targets))
        gradient = self._model.trainable_variables[0].value.grad
        return Examined(
            gradients=pytorch_adapter.dtype_name(gradient.dtype),
            flop_per_step=counter.get_total_flops(),
        )


MAX_VALUES_TOGETHER = 2**26
"""Largest number of values in one list of variables: the temporaries of an update take four bytes
a value, and in bf16 twenty."""


@torch.no_grad()  # type: ignore[untyped-decorator]  # torch is untyped here
def _update_together(update: Any, *, beta1: float, beta2: float) -> None:
    """An `Update` of Keras's AdamW by torch's operations on lists of tensors, in float32.

    Keras's own AdamW on torch uses them too. Updating variables one by one would take twice the
    passes over memory, and on a GPU a kernel launch for each.
    """
    for part in _parts([weight.numel() for weight in update.weights]):
        some = {name: ones[part] for name, ones in update._asdict().items() if name != "factors"}
        _update_part(update._replace(**some), beta1=beta1, beta2=beta2)


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Slices of variables that hold at most MAX_VALUES_TOGETHER values, or one variable."""
    start, total = 0, 0
    for position, size in enumerate(sizes):
        if position > start and total + size > MAX_VALUES_TOGETHER:
            yield slice(start, position)
            start, total = position, 0
        total += size
    yield slice(start, len(sizes))


def _update_part(update: Any, *, beta1: float, beta2: float) -> None:
    held = (update.weights, update.moments, update.second_moments)
    # In float32 these are the variables' tensors themselves.
    gradients, weights, moments, second_moments = (
        [one.float() for one in ones] for ones in (update.gradients, *held)
    )
    torch._foreach_lerp_(moments, gradients, 1 - beta1)
    torch._foreach_mul_(second_moments, beta2)
    torch._foreach_addcmul_(second_moments, gradients, gradients, value=1 - beta2)
    roots = torch._foreach_sqrt(second_moments)
    torch._foreach_add_(roots, update.factors.epsilon)
    torch._foreach_div_(roots, update.factors.rate)
    torch._foreach_mul_(weights, update.kept)
    torch._foreach_addcdiv_(weights, moments, roots, value=-1)
    for ones, wide in zip(held, (weights, moments, second_moments)):
        if ones[0].dtype != torch.float32:
            torch._foreach_copy_(ones, wide)


def _formulas() -> dict[Any, Any]:
    """The FLOP of attention on a CPU, for which torch 2.13 has no formula; as for GPU kernels.

    Matmuls only, without causal discount; the backward pass computes the scores again.
    """

    def forward(query_BHTK: tuple[int, ...], *_: Any, **__: Any) -> int:
        batch_size, num_heads, length, dimension = query_BHTK
        return 2 * 2 * batch_size * num_heads * length**2 * dimension

    def backward(_: Any, query_BHTK: tuple[int, ...], *__: Any, **___: Any) -> int:
        return 5 * forward(query_BHTK) // 2

    operations = torch.ops.aten
    return {
        operations._scaled_dot_product_flash_attention_for_cpu: forward,
        operations._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
