"""ResNet-50 answering requests in PyTorch, in its fastest idiom.

Tuned: batch normalisation folded into the convolutions, channels_last, and for `compiled` Inductor:
on a CPU with the weights frozen into the graph, on CUDA replayed as a CUDA graph.

Shapes: B batch, H height, W width, C channels in, D channels out, V classes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch._inductor.config
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.pytorch.adapter import (
    COMPUTE_DTYPES,
    TORCH_DEVICES,
    dtype_name,
    multiplies_bf16,
)
from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}


def build(problem: Problem, framework: Framework) -> ResNet50Inference:
    """The program of this case, without weights and requests yet."""
    return ResNet50Inference(problem, framework)


def memory_format(*, device: str, precision: str) -> torch.memory_format:
    """The layout that is fastest; Metal and float64 have no kernels for channels_last."""
    if device == "metal" or precision == "fp64":
        return torch.contiguous_format
    return torch.channels_last


class RoundedConvolution(nn.Conv2d):  # type: ignore[misc]  # torch is untyped here
    """A convolution from bf16 to bf16, its kernel of bf16 values held and multiplied in float32.

    That is what a bf16 unit computes. On a CPU without one torch's own is far slower.
    """

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The convolution in bf16, BDHW."""
        return super().forward(x_BCHW.float()).bfloat16()


class Bottleneck(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Three convolutions and a shortcut."""

    def __init__(self, block: resnet50.Block, kind: type[nn.Conv2d]) -> None:
        super().__init__()
        self.first, self.second, self.third = (_made(one, kind) for one in block.convolutions)
        self.projection = None if block.projection is None else _made(block.projection, kind)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The block's output, BDHW."""
        y_BDHW = F.relu(self.first(x_BCHW), inplace=True)
        y_BDHW = F.relu(self.second(y_BDHW), inplace=True)
        y_BDHW = self.third(y_BDHW)
        y_BDHW += x_BCHW if self.projection is None else self.projection(x_BCHW)
        return F.relu(y_BDHW, inplace=True)


class FoldedResNet50(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """ResNet-50 v1.5 from images to logits, its normalisations folded into the convolutions."""

    def __init__(self, layers: resnet50.Network, kind: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        self.stem = _made(layers.stem, kind)
        self.blocks = nn.Sequential(*(Bottleneck(block, kind) for block in layers.blocks))
        self.head = nn.Linear(layers.head_channels, layers.num_classes)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The logits, BV, in the dtype of the images."""
        x_BCHW = F.relu(self.stem(images_BCHW), inplace=True)
        x_BCHW = F.max_pool2d(x_BCHW, kernel_size=3, stride=2, padding=1)
        x_BC = self.blocks(x_BCHW).mean(dim=(2, 3))
        return self.head(x_BC.to(self.head.weight.dtype)).to(x_BC.dtype)


def _made(layer: resnet50.Convolution, kind: type[nn.Conv2d]) -> nn.Conv2d:
    return kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=(layer.kernel_size - 1) // 2,
    )


def load_folded(
    model: FoldedResNet50, layers: resnet50.Network, folded: Arrays, dtype: torch.dtype
) -> None:
    """Copy folded weights, as `spec.folded` gives them, into the model, rounded to this dtype."""
    modules = [(layers.stem.name, model.stem), ("head", model.head)]
    for block, own in zip(layers.blocks, model.blocks):
        named = zip(block.convolutions, (own.first, own.second, own.third))
        modules += [(conv.name, module) for conv, module in named]
        if block.projection is not None:
            modules.append((block.projection.name, own.projection))
    with torch.no_grad():
        for name, module in modules:
            kernel = folded[f"{name}/kernel"]
            own = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            module.weight.copy_(torch.tensor(np.ascontiguousarray(own)).to(dtype))
            module.bias.copy_(torch.tensor(folded[f"{name}/bias"]).to(dtype))


class ResNet50Inference:
    """The folded model, device-resident requests, and the answer to one; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        case = problem.case
        self._framework = framework
        self._epsilon = problem.hyperparameters["batch_norm_epsilon"]
        self._layers = resnet50.network(problem.parameters)
        self._dtype = COMPUTE_DTYPES[case.way.precision]
        self._memory_format = memory_format(device=case.place.device, precision=case.way.precision)
        on_cpu = case.place.device == "cpu"
        is_rounded = on_cpu and self._dtype == torch.bfloat16 and not multiplies_bf16()
        with torch.device("meta"):  # `load` brings the weights: draw none
            model = FoldedResNet50(self._layers, RoundedConvolution if is_rounded else nn.Conv2d)
        model.to_empty(device=TORCH_DEVICES[case.place.device])
        held = torch.float32 if is_rounded else self._dtype
        model.to(dtype=held, memory_format=self._memory_format)
        self._model = model.eval().requires_grad_(False)
        self._respond = self._logits_of
        if case.way.execution == "compiled":
            # On a CPU the weights are constants of the graph, which Inductor lays out and packs
            # once (torch 2.13 crashes where it packs float64); CUDA replays the graph as a whole,
            # from weights that stay where they are.
            on_cuda = case.place.device == "cuda"
            torch._inductor.config.freezing = on_cpu and self._dtype != torch.float64
            self._respond = torch.compile(
                self._logits_of,
                fullgraph=True,
                dynamic=False,
                mode="reduce-overhead" if on_cuda else None,
            )
        self._requests: list[torch.Tensor] = []
        self._next = 0
        self._logits: torch.Tensor | None = None

    def export(self, weights: Arrays) -> None:
        """Do nothing: the weights are loaded as they are."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics, folded."""
        folded = dict(spec.folded(weights, self._epsilon))
        load_folded(self._model, self._layers, folded, self._dtype)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these requests on the device, in the layout of the activations."""
        self._requests = [self._images(batch) for batch in batches]
        self._next = 0

    def prepare(self) -> None:
        """Do nothing: a request stands by itself."""

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is untyped here
    def step(self) -> torch.Tensor:
        """Enqueue the next request; its logits, still on the device."""
        images_BCHW = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        self._logits = self._respond(images_BCHW)
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        assert self._logits is not None, "read before the first request"
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """What the tensors are; torch counts the FLOP of products, on tensors without values."""
        images_BCHW = self._requests[0]
        is_last = images_BCHW.is_contiguous(memory_format=torch.channels_last)
        seen: list[torch.Tensor] = []
        hook = self._model.blocks[0].register_forward_hook(lambda _m, _i, y: seen.append(y))
        with FakeTensorMode() as fake, FlopCounterMode(display=False) as counter:
            named = self._model.named_parameters()
            without_values = {name: fake.from_tensor(tensor) for name, tensor in named}
            images_BCHW = fake.from_tensor(images_BCHW)
            torch.func.functional_call(self._model, without_values, images_BCHW)
        hook.remove()
        return Effective(
            parameters=dtype_name(self._model.head.weight.dtype),
            activations=dtype_name(seen[0].dtype),
            flop_per_step=counter.get_total_flops(),
            layout="NHWC" if is_last else "NCHW",
            folded="batch normalisation",
        )

    def artefact_bytes(self) -> None:
        """Nothing is exported."""

    def _logits_of(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The logits in float32 or wider."""
        logits_BV = self._model(images_BCHW)
        return logits_BV if logits_BV.dtype == torch.float64 else logits_BV.float()

    def _images(self, batch: Arrays) -> torch.Tensor:
        images_BCHW = self._framework.put(batch["images"]).permute(0, 3, 1, 2)
        return images_BCHW.to(dtype=self._dtype).contiguous(memory_format=self._memory_format)


def export_onnx(request_file: str) -> None:
    """Write the folded model in float32 as ONNX, as the engines take it: NCHW images to logits.

    The request is JSON: `parameters` and `batch_size` of the work, `epsilon`, `weights` (canonical,
    an .npz file) and `output`.
    """
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    layers = resnet50.network(request["parameters"])
    with np.load(request["weights"]) as weights:
        folded = dict(spec.folded(dict(weights), request["epsilon"]))
    model = FoldedResNet50(layers).eval().requires_grad_(False)
    load_folded(model, layers, folded, torch.float32)
    size = layers.stem.input_size
    torch.onnx.export(
        model,
        (torch.zeros(request["batch_size"], 3, size, size),),
        request["output"],
        dynamo=True,
        external_data=False,
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )


if __name__ == "__main__":
    export_onnx(sys.argv[1])
