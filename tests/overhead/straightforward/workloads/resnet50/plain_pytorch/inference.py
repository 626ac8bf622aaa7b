"""ResNet-50 answering requests in PyTorch as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. The model that was trained, in
evaluation mode, in channels_last; `torch.compile(model)` with Inductor's freezing. As a program of
its own it writes the model as ONNX.

Shapes: B batch, H height, W width, C channels in, D channels out.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.contract.program import Effective, RequestProgram
from benchmarks.frameworks.pytorch.adapter import TORCH_DEVICES, dtype_name
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_infer"}

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


def build(problem, framework):
    return PlainInference(problem, framework)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1, added to the input or to its projection."""

    def __init__(self, block, epsilon):
        super().__init__()
        one, two, three = block.convolutions
        self.conv1 = nn.Conv2d(one.in_channels, one.out_channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(one.out_channels, epsilon)
        self.conv2 = nn.Conv2d(
            two.in_channels, two.out_channels, 3, stride=two.stride, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(two.out_channels, epsilon)
        self.conv3 = nn.Conv2d(three.in_channels, three.out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(three.out_channels, epsilon)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if block.projection is not None:
            side = block.projection
            self.shortcut = nn.Sequential(
                nn.Conv2d(side.in_channels, side.out_channels, 1, stride=side.stride, bias=False),
                nn.BatchNorm2d(side.out_channels, epsilon),
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.shortcut(x))


class ResNet50(nn.Module):
    """ResNet-50 v1.5."""

    def __init__(self, layers, epsilon):
        super().__init__()
        stem = layers.stem
        self.conv = nn.Conv2d(3, stem.out_channels, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(stem.out_channels, epsilon)
        self.relu = nn.ReLU(inplace=True)
        self.max_pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Bottleneck(block, epsilon) for block in layers.blocks))
        self.average_pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(layers.head_channels, layers.num_classes)

    def forward(self, images):
        x = self.max_pool(self.relu(self.bn(self.conv(images))))
        x = self.average_pool(self.blocks(x))
        return self.head(torch.flatten(x, 1))


class PlainInference(RequestProgram):
    """The model, its requests, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        case = problem.case
        self.framework = framework
        self.layers = resnet50.network(problem.parameters)
        self.device = TORCH_DEVICES[case.place.device]
        self.dtype = DTYPES.get(case.way.precision, torch.float32)
        model = ResNet50(self.layers, problem.hyperparameters["batch_norm_epsilon"]).eval()
        self.model = model.to(self.device, self.dtype, memory_format=torch.channels_last)
        self.run = self.model
        if case.way.execution == "compiled":
            # torch 2.13: freezing packs kernels for oneDNN, which has none of float64, and fails.
            torch._inductor.config.freezing = self.dtype != torch.float64
            self.run = torch.compile(self.model)

    def load(self, weights):
        load_weights(self.model, self.layers, weights)

    def feed(self, batches):
        self.requests = itertools.cycle([self.images(batch) for batch in batches])

    def step(self):
        images = next(self.requests)
        with torch.no_grad():
            self.logits = self.run(images)
        return self.logits

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters=dtype_name(self.model.head.weight.dtype),
            activations=dtype_name(self.dtype),
            layout="NHWC",
            flop_per_step=None,
        )

    def images(self, batch):
        images_BCHW = self.framework.put(batch["images"]).permute(0, 3, 1, 2)
        return images_BCHW.to(self.dtype, memory_format=torch.channels_last)


def load_weights(model, layers, weights):
    """Canonical weights and statistics into the model."""
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
    with torch.no_grad():
        for name, tensor in tensors.items():
            array = weights[name]
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            tensor.copy_(torch.from_numpy(np.array(array)))


def export_onnx(request_file):
    """Write the model as ONNX: BCHW images to logits."""
    request = json.loads(Path(request_file).read_text())
    layers = resnet50.network(request["parameters"])
    model = ResNet50(layers, request["epsilon"]).eval()
    with np.load(request["weights"]) as weights:
        load_weights(model, layers, weights)
    size = layers.stem.input_size
    example = torch.randn(request["batch_size"], 3, size, size)
    torch.onnx.export(
        model, (example,), request["output"], input_names=["images"], output_names=["logits"]
    )


if __name__ == "__main__":
    export_onnx(sys.argv[1])
