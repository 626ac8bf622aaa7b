"""ResNet-50 training in PyTorch, in its fastest idiom.

Settings: the memory format for each device and precision, batch normalisation without its counter
of batches, in-place activations, a fused optimizer, and in `compiled` one graph from images to
loss. The tuned recipe computes convolutions of small images as matmuls.

Shapes: B batch, H height, W width, C channels in, D channels out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contract.case import TUNED as RECIPE_TUNED
from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.pytorch.adapter import TORCH_DEVICES, dtype_name
from workloads.resnet50 import network as resnet50
from workloads.resnet50.pytorch import network, products

IMPLEMENTS = {"resnet50_train"}
TUNED = {"resnet50_train": "convolutions with outputs up to 4 px as matmuls, SGD in memory order"}
TUNED_ON = {"resnet50_train": {"cpu"}}

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
LOSS_SCALE = 128.0
"""For fp16, constant: NVIDIA DeepLearningExamples, PyTorch/Classification/ConvNets/configs.yml."""


def build(problem: Problem, framework: Framework) -> ResNet50Training:
    """The training program of this case."""
    return ResNet50Training(problem, framework)


def convolution_class(*, device: str, precision: str, is_tuned: bool) -> type[nn.Conv2d]:
    """Torch's convolution, or the tuned one; both rounded for bf16 on a CPU without bf16 units."""
    is_emulated = network.emulates_bf16(device=device, precision=precision)
    if is_tuned:
        return RoundedProductConvolution if is_emulated else products.ProductConvolution
    return RoundedConvolution if is_emulated else nn.Conv2d


class RoundedConvolution(nn.Conv2d):  # type: ignore[misc]  # torch is untyped here
    """A convolution with bf16 operands and result that multiplies and accumulates in fp32.

    That is what a bf16 unit computes, and what XLA does on a CPU without one. Torch's own bf16
    convolution there is three to ten times slower. The backward pass rounds at the same places.
    """

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The convolution in bf16, BDHW."""
        with torch.autocast("cpu", enabled=False):
            y_BDHW = self._conv_forward(
                x_BCHW.bfloat16().float(), self.weight.bfloat16().float(), None
            )
        return y_BDHW.bfloat16()


class RoundedProductConvolution(RoundedConvolution, products.ProductConvolution):
    """The same, computed as matmuls if its output is small."""


class ConvolutionNorm(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A convolution without bias, followed by batch normalisation on the batch's statistics."""

    def __init__(
        self,
        layer: resnet50.Convolution,
        constants: Mapping[str, float],
        convolution: type[nn.Conv2d],
    ) -> None:
        super().__init__()
        self.convolution = network.made(layer, convolution, bias=False)
        self.norm = nn.BatchNorm2d(
            layer.out_channels,
            eps=constants["batch_norm_epsilon"],
            momentum=constants["batch_norm_momentum"],
        )
        # With a constant momentum nothing reads the counter of batches: saves a kernel per layer.
        self.norm.num_batches_tracked = None

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The normalised convolution, BDHW."""
        return self.norm(self.convolution(x_BCHW))


def canonical(model: network.ResNet50) -> dict[str, torch.Tensor]:
    """Parameters and running statistics by their canonical names, in torch's layout."""
    tensors = {"head/kernel": model.head.weight, "head/bias": model.head.bias}
    for name, module in model.convolutions():
        tensors[f"{name}/kernel"] = module.convolution.weight
        tensors[f"{name}/bn/scale"] = module.norm.weight
        tensors[f"{name}/bn/bias"] = module.norm.bias
        tensors[f"{name}/bn/mean"] = module.norm.running_mean
        tensors[f"{name}/bn/variance"] = module.norm.running_var
    return tensors


class ResNet50Training:
    """Forward, loss, backward and update; see `Program`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        way, device = problem.case.way, problem.case.place.device
        self._framework = framework
        self._hyperparameters = problem.hyperparameters
        self._device = TORCH_DEVICES[device]
        self._dtype = torch.float64 if way.precision == "fp64" else torch.float32
        self._autocast_dtype = AUTOCAST_DTYPES.get(way.precision)
        self._memory_format = network.memory_format(device=device, precision=way.precision)
        self._model = self._empty_model(problem)
        self._tensors = canonical(self._model)
        self._updated = dict(self._parameters(is_tuned=way.recipe == RECIPE_TUNED))
        self._optimizer = self._fresh_optimizer()
        self._scaler = self._fresh_scaler()
        self._compute_loss = self._loss_of
        if way.execution == "compiled":
            self._compute_loss = torch.compile(self._loss_of, fullgraph=True, dynamic=False)
        self._batches: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._turns = itertools.cycle(self._batches)
        self._loss: torch.Tensor | None = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state."""
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(self._framework.put(network.to_torch_layout(weights[name])))
        self._optimizer = self._fresh_optimizer()
        self._scaler = self._fresh_scaler()

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device in the layout of the activations."""
        self._batches = [(self._images(batch), self._labels(batch)) for batch in batches]
        self._turns = itertools.cycle(self._batches)

    def step(self) -> torch.Tensor:
        """Enqueue one training step on the next batch and return its loss, still on the device."""
        images_BCHW, labels_B = next(self._turns)
        self._optimizer.zero_grad(set_to_none=True)  # before the forward: it frees the gradients
        loss = self._compute_loss(images_BCHW, labels_B)
        self._scaler.scale(loss).backward()
        self._hand_over_gradients()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._loss = loss.detach()
        return self._loss

    def read(self) -> dict[str, np.ndarray]:
        """The last loss, weights, momentum buffers and running statistics; canonical."""
        assert self._loss is not None, "read before the first step"
        arrays = {"loss": self._framework.get(self._loss)}
        for name, tensor in self._tensors.items():
            if resnet50.is_statistic(name):
                arrays[f"statistics/{name}"] = self._framework.get(tensor)
                continue
            momentum = self._optimizer.state[self._updated[name]]["momentum_buffer"]
            momentum = products.as_kernel(momentum, tensor)
            arrays[f"weights/{name}"] = _to_canonical_layout(self._framework.get(tensor))
            arrays[f"optimizer/{name}"] = _to_canonical_layout(self._framework.get(momentum))
        return arrays

    def inspect(self) -> Effective:
        """Dtypes, layout and FLOP of the step; torch counts only convolutions and matmuls.

        Activations and FLOP come from a step on tensors without values: no time, no memory.
        """
        parameter = self._tensors["head/kernel"]
        trace = network.traced(
            self._model,
            lambda model, images, labels: self._loss_of(images, labels, model).backward(),
            *self._batches[0],
        )
        return Effective(
            parameters=dtype_name(parameter.dtype),
            gradients=dtype_name(parameter.grad.dtype),
            optimizer=dtype_name(self._optimizer.state[parameter]["momentum_buffer"].dtype),
            activations=trace.activations,
            layout=trace.layout,
            flop_per_step=trace.flop,
        )

    def _loss_of(
        self,
        images_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        model: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Mean cross-entropy, from logits in float32 or wider."""
        model = model or self._model
        if self._autocast_dtype is None:  # an idle autocast would keep the graph out of caches
            logits_BD = model(images_BCHW)
        else:
            with torch.autocast(self._device, self._autocast_dtype):
                logits_BD = model(images_BCHW)
        return F.cross_entropy(logits_BD.to(self._dtype), labels_B)

    def _empty_model(self, problem: Problem) -> network.ResNet50:
        case = problem.case
        convolution = convolution_class(
            device=case.place.device,
            precision=case.way.precision,
            is_tuned=case.way.recipe == RECIPE_TUNED,
        )
        make = partial(ConvolutionNorm, constants=problem.hyperparameters, convolution=convolution)
        with torch.device("meta"):  # `load` sets the weights: draw none
            model = network.ResNet50(resnet50.network(problem.parameters), make)
        model.to_empty(device=self._device)
        model.to(dtype=self._dtype, memory_format=self._memory_format)
        return model

    def _parameters(self, *, is_tuned: bool) -> Iterator[tuple[str, torch.Tensor]]:
        """The parameters as the optimizer updates them; tuned, in the order of their memory."""
        for name, tensor in self._tensors.items():
            if resnet50.is_statistic(name):
                continue
            dense = products.in_memory_order(tensor.detach()) if is_tuned else tensor
            yield name, tensor if dense.shape == tensor.shape else nn.Parameter(dense)

    def _hand_over_gradients(self) -> None:
        """Give the optimizer the gradients of parameters that it updates by another tensor."""
        for name, updated in self._updated.items():
            tensor = self._tensors[name]
            if updated is not tensor:
                updated.grad = products.in_memory_order(tensor.grad)
                tensor.grad = None

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        decayed = [one for name, one in self._updated.items() if resnet50.is_decayed(name)]
        others = [one for name, one in self._updated.items() if not resnet50.is_decayed(name)]
        return torch.optim.SGD(
            [
                {"params": decayed, "weight_decay": self._hyperparameters["weight_decay"]},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self._hyperparameters["learning_rate"],
            momentum=self._hyperparameters["momentum"],
            fused=True,
        )

    def _fresh_scaler(self) -> torch.amp.GradScaler:
        # The growth interval is never reached: the scale is constant unless a gradient overflows.
        return torch.amp.GradScaler(
            self._device,
            init_scale=LOSS_SCALE,
            growth_interval=2**31 - 1,
            enabled=self._autocast_dtype == torch.float16,
        )

    def _images(self, batch: Arrays) -> torch.Tensor:
        return network.put_images(
            self._framework, batch, dtype=self._dtype, memory_format=self._memory_format
        )

    def _labels(self, batch: Arrays) -> torch.Tensor:
        return self._framework.put(batch["labels"]).long()  # the index type of torch's loss


def _to_canonical_layout(array: np.ndarray) -> np.ndarray:
    """DCHW to HWCD, DC to CD; vectors unchanged."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
