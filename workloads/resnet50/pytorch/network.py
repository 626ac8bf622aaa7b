"""ResNet-50 in PyTorch, shared by training and inference: layers, layouts, their inspection.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays
from benchmarks.frameworks.pytorch.adapter import dtype_name, multiplies_bf16
from workloads.resnet50 import network as resnet50

MakeConvolution = Callable[[resnet50.Convolution], nn.Module]


class Bottleneck(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Three convolutions and a shortcut."""

    def __init__(self, block: resnet50.Block, make: MakeConvolution) -> None:
        super().__init__()
        self.first, self.second, self.third = map(make, block.convolutions)
        self.projection = None if block.projection is None else make(block.projection)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The block's output, BDHW."""
        y_BDHW = F.relu(self.first(x_BCHW), inplace=True)
        y_BDHW = F.relu(self.second(y_BDHW), inplace=True)
        y_BDHW = self.third(y_BDHW)
        # Batch normalisation's backward pass needs its input, not its output: add in place.
        y_BDHW += x_BCHW if self.projection is None else self.projection(x_BCHW)
        return F.relu(y_BDHW, inplace=True)


class ResNet50(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """ResNet-50 v1.5 from images to logits.

    `make` returns a convolution with its normalisation, `head` is a class of dense layers.
    """

    def __init__(
        self,
        layers: resnet50.Network,
        make: MakeConvolution,
        head: type[nn.Linear] = nn.Linear,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.stem = make(layers.stem)
        self.blocks = nn.Sequential(*(Bottleneck(block, make) for block in layers.blocks))
        self.head = head(layers.head_channels, layers.num_classes)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The logits, BV."""
        x_BCHW = F.relu(self.stem(images_BCHW), inplace=True)
        x_BCHW = F.max_pool2d(x_BCHW, kernel_size=3, stride=2, padding=1)
        return self.head(self.blocks(x_BCHW).mean(dim=(2, 3)))

    def convolutions(self) -> Iterator[tuple[str, nn.Module]]:
        """The module that `make` returned for each convolution, by canonical name."""
        yield self.layers.stem.name, self.stem
        for block, own in zip(self.layers.blocks, self.blocks):
            named = zip(block.convolutions, (own.first, own.second, own.third))
            yield from ((conv.name, module) for conv, module in named)
            if block.projection is not None:
                yield block.projection.name, own.projection


def made(layer: resnet50.Convolution, kind: type[nn.Conv2d], *, bias: bool) -> nn.Conv2d:
    """The convolution as a layer of this class."""
    return kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=(layer.kernel_size - 1) // 2,
        bias=bias,
    )


class WidenedConvolution(nn.Conv2d):  # type: ignore[misc]  # torch is untyped here
    """A convolution from bf16 to bf16; it stores its bf16 kernel in float32 and multiplies there.

    That is what a bf16 unit computes. On a CPU without one, torch's bf16 convolution is far slower.
    """

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The convolution in bf16, BDHW."""
        return super().forward(x_BCHW.float()).bfloat16()


class WidenedLinear(nn.Linear):  # type: ignore[misc]  # torch is untyped here
    """A dense layer that multiplies in its kernel's dtype and returns its input's dtype."""

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        """The output, BV."""
        return super().forward(x_BC.to(self.weight.dtype)).to(x_BC.dtype)


def folded_model(layers: resnet50.Network, convolution: type[nn.Conv2d] = nn.Conv2d) -> ResNet50:
    """The network with its normalisations folded into the convolutions."""
    return ResNet50(layers, partial(made, kind=convolution, bias=True), WidenedLinear)


def load_folded(model: ResNet50, folded: Arrays, dtype: torch.dtype) -> None:
    """Copy the output of `inference_spec.folded` into the model, rounded to this dtype."""
    with torch.no_grad():
        for name, module in (*model.convolutions(), ("head", model.head)):
            kernel = np.ascontiguousarray(to_torch_layout(folded[f"{name}/kernel"]))
            module.weight.copy_(torch.tensor(kernel).to(dtype))
            module.bias.copy_(torch.tensor(folded[f"{name}/bias"]).to(dtype))


def emulates_bf16(*, device: str, precision: str) -> bool:
    """Whether this is bf16 on a CPU for which oneDNN has no bf16 convolution."""
    return device == "cpu" and precision == "bf16" and not multiplies_bf16()


def memory_format(*, device: str, precision: str) -> torch.memory_format:
    """The layout of images, activations and kernels that is fastest here.

    Tensor cores, Inductor's fused kernels and oneDNN read channels_last directly. Metal's
    convolution backward is slow with it (https://github.com/pytorch/pytorch/issues/193349), and
    float64 has no kernel for it.
    """
    if device == "metal" or precision == "fp64":
        return torch.contiguous_format
    return torch.channels_last


def put_images(
    framework: Framework,
    batch: Arrays,
    *,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> torch.Tensor:
    """The batch's images on the device, BCHW in this layout."""
    images_BCHW = framework.put(batch["images"]).permute(0, 3, 1, 2)
    return images_BCHW.to(dtype=dtype).contiguous(memory_format=memory_format)


def to_torch_layout(array: np.ndarray) -> np.ndarray:
    """HWCD to DCHW, CD to DC; vectors unchanged."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


class Trace(NamedTuple):
    """Dtype, layout and FLOP of a pass."""

    activations: str
    """Dtype of the first block's output."""
    layout: str
    flop: int
    """FLOP of convolutions and matmuls: torch counts nothing else."""


def traced(model: ResNet50, run: Callable[..., Any], *inputs: torch.Tensor) -> Trace:
    """Run `run` on the model and inputs (images first) as tensors without values.

    This takes no time and no memory.
    """
    is_last = inputs[0].is_contiguous(memory_format=torch.channels_last)
    seen: list[torch.Tensor] = []
    hook = model.blocks[0].register_forward_hook(lambda _module, _inputs, y: seen.append(y))
    with FakeTensorMode() as fake, FlopCounterMode(display=False) as counter:
        named = (*model.named_parameters(), *model.named_buffers())
        without_values = {name: fake.from_tensor(tensor) for name, tensor in named}
        run(
            partial(torch.func.functional_call, model, without_values),
            *map(fake.from_tensor, inputs),
        )
    hook.remove()
    return Trace(
        activations=dtype_name(seen[0].dtype),
        layout="NHWC" if is_last else "NCHW",
        flop=counter.get_total_flops(),
    )
