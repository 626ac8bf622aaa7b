"""Exports ResNet-50 from PyTorch to ONNX, for the engines that run it; a separate program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50
from workloads.resnet50.pytorch import network


def export_onnx(request_file: str) -> None:
    """Write the folded model in float32 as ONNX, from NCHW images to logits.

    The request is JSON: `parameters` and `batch_size` of the work, `epsilon`, `weights` (canonical,
    an .npz file) and `output`.
    """
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    layers = resnet50.network(request["parameters"])
    with np.load(request["weights"]) as weights:
        folded = dict(spec.folded(dict(weights), request["epsilon"]))
    model = network.folded_model(layers).eval().requires_grad_(False)
    network.load_folded(model, folded, torch.float32)
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
