"""ResNet-50 training in PyTorch as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. The default layout, the default
optimizer, autocast, `torch.compile(model)`.

Shapes: B batch, H height, W width, C channels in, D channels out.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contract.program import Effective
from benchmarks.frameworks.pytorch.adapter import TORCH_DEVICES, dtype_name
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_train"}

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def build(problem, framework):
    return PlainTraining(problem, framework)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1, added to the input or to its projection."""

    def __init__(self, block, epsilon, momentum):
        super().__init__()
        one, two, three = block.convolutions
        self.conv1 = nn.Conv2d(one.in_channels, one.out_channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(one.out_channels, epsilon, momentum)
        self.conv2 = nn.Conv2d(
            two.in_channels, two.out_channels, 3, stride=two.stride, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(two.out_channels, epsilon, momentum)
        self.conv3 = nn.Conv2d(three.in_channels, three.out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(three.out_channels, epsilon, momentum)
        self.relu = nn.ReLU()
        self.shortcut = nn.Identity()
        if block.projection is not None:
            side = block.projection
            self.shortcut = nn.Sequential(
                nn.Conv2d(side.in_channels, side.out_channels, 1, stride=side.stride, bias=False),
                nn.BatchNorm2d(side.out_channels, epsilon, momentum),
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.shortcut(x))


class ResNet50(nn.Module):
    """ResNet-50 v1.5."""

    def __init__(self, layers, epsilon, momentum):
        super().__init__()
        stem = layers.stem
        self.conv = nn.Conv2d(3, stem.out_channels, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(stem.out_channels, epsilon, momentum)
        self.relu = nn.ReLU()
        self.max_pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Bottleneck(b, epsilon, momentum) for b in layers.blocks))
        self.average_pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(layers.head_channels, layers.num_classes)

    def forward(self, images):
        x = self.max_pool(self.relu(self.bn(self.conv(images))))
        x = self.average_pool(self.blocks(x))
        return self.head(torch.flatten(x, 1))


class PlainTraining:
    """The training loop's body, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        precision = problem.case.way.precision
        self.framework = framework
        self.hyperparameters = problem.hyperparameters
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        self.autocast_dtype = AUTOCAST_DTYPES.get(precision)
        layers = resnet50.network(problem.parameters)
        constants = problem.hyperparameters
        model = ResNet50(layers, constants["batch_norm_epsilon"], constants["batch_norm_momentum"])
        self.device = TORCH_DEVICES[problem.case.place.device]
        self.model = model.to(self.device, self.dtype)
        self.tensors = canonical_tensors(self.model, layers)
        self.run = torch.compile(model) if problem.case.way.execution == "compiled" else model

    def load(self, weights):
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                array = weights[name]
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
                tensor.copy_(self.framework.put(array))
        names = [name for name in self.tensors if not resnet50.is_statistic(name)]
        groups = [
            {
                "params": [
                    self.tensors[name] for name in names if resnet50.is_decayed(name) == decays
                ],
                "weight_decay": self.hyperparameters["weight_decay"] if decays else 0.0,
            }
            for decays in (True, False)
        ]
        self.optimizer = torch.optim.SGD(
            groups,
            lr=self.hyperparameters["learning_rate"],
            momentum=self.hyperparameters["momentum"],
        )
        self.scaler = torch.amp.GradScaler(
            self.device, init_scale=128.0, enabled=self.autocast_dtype == torch.float16
        )

    def feed(self, batches):
        self.batches = itertools.cycle(
            [
                (
                    self.framework.put(batch["images"])
                    .permute(0, 3, 1, 2)
                    .contiguous()
                    .to(self.dtype),
                    self.framework.put(batch["labels"]).long(),
                )
                for batch in batches
            ]
        )

    def step(self):
        images, labels = next(self.batches)
        self.optimizer.zero_grad()
        with torch.autocast(
            self.device, self.autocast_dtype, enabled=self.autocast_dtype is not None
        ):
            loss = F.cross_entropy(self.run(images), labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.loss = loss.detach()
        return self.loss

    def read(self):
        arrays = {"loss": self.framework.get(self.loss)}
        for name, tensor in self.tensors.items():
            if resnet50.is_statistic(name):
                arrays[f"statistics/{name}"] = self.framework.get(tensor)
                continue
            state = self.optimizer.state[tensor]["momentum_buffer"]
            for kind, value in (("weights", tensor), ("optimizer", state)):
                array = self.framework.get(value)
                array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
                arrays[f"{kind}/{name}"] = array
        return arrays

    def inspect(self):
        momentum = self.optimizer.state[self.model.head.weight]["momentum_buffer"]
        return Effective(
            parameters=dtype_name(self.model.head.weight.dtype),
            gradients=dtype_name(self.model.head.weight.grad.dtype),
            optimizer=dtype_name(momentum.dtype),
            activations=dtype_name(self.autocast_dtype or self.dtype),
            layout="NCHW",
            flop_per_step=None,
        )


def canonical_tensors(model, layers):
    """Parameters and running statistics by their canonical names."""
    modules = [(layers.stem, model.conv, model.bn)]
    for block, module in zip(layers.blocks, model.blocks, strict=True):
        one, two, three = block.convolutions
        modules.append((one, module.conv1, module.bn1))
        modules.append((two, module.conv2, module.bn2))
        modules.append((three, module.conv3, module.bn3))
        if block.projection is not None:
            modules.append((block.projection, module.shortcut[0], module.shortcut[1]))
    tensors = {"head/kernel": model.head.weight, "head/bias": model.head.bias}
    for layer, conv, bn in modules:
        tensors[f"{layer.name}/kernel"] = conv.weight
        tensors[f"{layer.name}/bn/scale"] = bn.weight
        tensors[f"{layer.name}/bn/bias"] = bn.bias
        tensors[f"{layer.name}/bn/mean"] = bn.running_mean
        tensors[f"{layer.name}/bn/variance"] = bn.running_var
    return tensors
