"""ResNet-50 answering requests in MLX as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. MLX's own modules in evaluation
mode, and `mx.compile` of the model.
"""

from __future__ import annotations

import itertools

import mlx.core as mx
import mlx.nn as nn

from benchmarks.contract.program import Effective, RequestProgram
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}

STATISTICS = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
"""MLX's name of each canonical part of a batch normalisation."""


def build(problem, framework):
    return PlainInference(problem, framework)


class ConvBN(nn.Module):
    def __init__(self, conv, epsilon):
        super().__init__()
        self.conv = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=(conv.kernel_size - 1) // 2,
            bias=False,
        )
        self.bn = nn.BatchNorm(conv.out_channels, eps=epsilon)

    def __call__(self, x):
        return self.bn(self.conv(x))


class Bottleneck(nn.Module):
    def __init__(self, block, epsilon):
        super().__init__()
        self.convolutions = [ConvBN(conv, epsilon) for conv in block.convolutions]
        self.projection = None
        if block.projection is not None:
            self.projection = ConvBN(block.projection, epsilon)

    def __call__(self, x):
        one, two, three = self.convolutions
        y = three(nn.relu(two(nn.relu(one(x)))))
        return nn.relu(y + (x if self.projection is None else self.projection(x)))


class ResNet50(nn.Module):
    """ResNet-50 v1.5."""

    def __init__(self, layers, epsilon):
        super().__init__()
        self.stem = ConvBN(layers.stem, epsilon)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.blocks = [Bottleneck(block, epsilon) for block in layers.blocks]
        self.head = nn.Linear(layers.head_channels, layers.num_classes)

    def __call__(self, images):
        x = self.pool(nn.relu(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class PlainInference(RequestProgram):
    """The model, its requests, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        if problem.case.way.precision != "fp32":
            raise ValueError("the plain code is in fp32")
        self.framework = framework
        self.layers = resnet50.network(problem.parameters)
        self.model = ResNet50(self.layers, problem.hyperparameters["batch_norm_epsilon"])
        self.model.eval()
        self.run = self.model
        if problem.case.way.execution == "compiled":
            self.run = mx.compile(self.model, inputs=self.model.state)

    def load(self, weights):
        modules = [(self.layers.stem, self.model.stem)]
        for block, module in zip(self.layers.blocks, self.model.blocks, strict=True):
            modules.extend(zip(block.convolutions, module.convolutions, strict=True))
            if block.projection is not None:
                modules.append((block.projection, module.projection))
        put = self.framework.put
        self.model.head.weight = put(weights["head/kernel"].T)
        self.model.head.bias = put(weights["head/bias"])
        for conv, module in modules:
            module.conv.weight = put(weights[f"{conv.name}/kernel"].transpose(3, 0, 1, 2))
            for part, own in STATISTICS.items():
                setattr(module.bn, own, put(weights[f"{conv.name}/bn/{part}"]))
        mx.eval(self.model.parameters())

    def feed(self, batches):
        self.requests = itertools.cycle([self.framework.put(batch["images"]) for batch in batches])

    def step(self):
        images = next(self.requests)
        self.logits = self.run(images)
        mx.eval(self.logits)
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters="float32", activations="float32", layout="NHWC", flop_per_step=None
        )
