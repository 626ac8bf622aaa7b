"""Convolutions of small images as matmuls, for the tuned recipe of training on a CPU.

oneDNN's convolutions are slow on images of a few pixels: there a matmul of patches with the kernel
takes a third of the time in the forward pass, and an eighth in the kernel's gradient (torch 2.13,
Zen 4). In the input's gradient oneDNN is as fast as a matmul, and remains.

Shapes: B batch, H height, W width, C channels in, D channels out, N pixels of all outputs, K taps
of the kernel times C. The memory of images is BHWC and that of kernels DHWC, except in float64.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

MAX_FORWARD_SIZE = 2
"""Largest output, in pixels of height, that is computed as a matmul."""
MAX_GRADIENT_SIZE = 4
"""Largest output whose kernel's gradient is computed as a matmul. Above these sizes oneDNN is as
fast, layer by layer with cold caches (size small, batch 4)."""


def in_memory_order(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as a contiguous tensor: DHWC of a kernel DCHW in channels_last.

    Torch's fused SGD copies tensors that are not contiguous, and their gradients and momenta, at
    each update: half of its time.
    """
    if tensor.is_contiguous() or tensor.ndim != 4:
        return tensor
    return tensor.permute(0, 2, 3, 1)


def as_kernel(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of `in_memory_order` for a tensor that belongs to `like`."""
    return tensor if tensor.shape == like.shape else tensor.permute(0, 3, 1, 2)


class ProductConvolution(nn.Conv2d):  # type: ignore[misc]  # torch is untyped here
    """A square convolution without bias, computed as matmuls if its output is small.

    It is padded by (kernel_size - 1) // 2 on each side.
    """

    def _conv_forward(
        self, x_BCHW: torch.Tensor, kernel_DCHW: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """The convolution, BDHW; `nn.Conv2d` and its subclasses compute everything here."""
        stride = self.stride[0]
        if _output_size(x_BCHW, stride) > MAX_GRADIENT_SIZE:
            return super()._conv_forward(x_BCHW, kernel_DCHW, bias)
        if torch.is_autocast_enabled("cpu"):  # it does not reach into a Function
            dtype = torch.get_autocast_dtype("cpu")
            x_BCHW, kernel_DCHW = x_BCHW.to(dtype), kernel_DCHW.to(dtype)
        return _SmallConvolution.apply(x_BCHW, kernel_DCHW, stride)


class _SmallConvolution(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """A convolution whose kernel's gradient, and perhaps whose output, is a matmul."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: torch.Tensor, kernel_DCHW: torch.Tensor, stride: int
    ) -> torch.Tensor:
        ctx.save_for_backward(x_BCHW, kernel_DCHW)
        ctx.stride = stride
        size = kernel_DCHW.shape[-1]
        if _output_size(x_BCHW, stride) > MAX_FORWARD_SIZE:
            return F.conv2d(x_BCHW, kernel_DCHW, stride=stride, padding=(size - 1) // 2)
        patches_BHWK = _patches(x_BCHW, size=size, stride=stride)
        kernel_DK = kernel_DCHW.permute(0, 2, 3, 1).flatten(1)
        return (patches_BHWK @ kernel_DK.t()).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, dy_BDHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x_BCHW, kernel_DCHW = ctx.saved_tensors
        num_out, num_in, size, _ = kernel_DCHW.shape
        patches_NK = _patches(x_BCHW, size=size, stride=ctx.stride).flatten(0, 2)
        dy_ND = dy_BDHW.permute(0, 2, 3, 1).reshape(-1, num_out)
        dkernel_DHWC = (dy_ND.t() @ patches_NK).view(num_out, size, size, num_in)
        dx_BCHW, _, _ = torch.ops.aten.convolution_backward(
            dy_BDHW,
            x_BCHW,
            kernel_DCHW,
            bias_sizes=None,
            stride=(ctx.stride, ctx.stride),
            padding=((size - 1) // 2, (size - 1) // 2),
            dilation=(1, 1),
            transposed=False,
            output_padding=(0, 0),
            groups=1,
            output_mask=(True, False, False),
        )
        return dx_BCHW, dkernel_DHWC.permute(0, 3, 1, 2), None


def _output_size(x_BCHW: torch.Tensor, stride: int) -> int:
    """The height of a convolution's output."""
    return int(x_BCHW.shape[2] - 1) // stride + 1


def _patches(x_BCHW: torch.Tensor, *, size: int, stride: int) -> torch.Tensor:
    """The inputs that the kernel covers at each output, BHWK in the order of a kernel's HWC."""
    padding = (size - 1) // 2
    if padding:
        x_BCHW = F.pad(x_BCHW, (padding, padding, padding, padding))
    windows_BCHWhw = x_BCHW.unfold(2, size, stride).unfold(3, size, stride)
    return windows_BCHWhw.permute(0, 2, 3, 4, 5, 1).flatten(3)
