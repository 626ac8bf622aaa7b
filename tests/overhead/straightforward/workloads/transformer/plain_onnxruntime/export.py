"""Writes the plain decoder as ONNX in two graphs, as exporters of language models do.

One of a prompt, and one of a token after keys and values so far, which it answers with the new ones
added. Run as `python -m straightforward.workloads.transformer.plain_onnxruntime.export FILE`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from straightforward.workloads.transformer.plain_pytorch.inference import (
    Decoder,
    load_weights,
    rotate_half,
)
from torch import nn


class Exported(nn.Module):
    """The decoder as a function of tokens and of keys and values so far."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens, past):
        start = past[0].shape[2] if past else 0
        positions = torch.arange(start, start + tokens.shape[1])
        cos, sin = self.decoder.cos[positions], self.decoder.sin[positions]
        x, present = self.decoder.embedding(tokens), []
        for index, layer in enumerate(self.decoder.layers):
            kept = past[2 * index : 2 * index + 2]
            x, keys, values = pass_layer(layer, x, cos, sin, kept)
            present += [keys, values]
        return self.decoder.head(self.decoder.norm(x[:, -1])), *present


def pass_layer(layer, x, cos, sin, past):
    y = layer.attention_norm(x)
    batch_size, length, width = y.shape

    def heads(z):
        return z.view(batch_size, length, layer.num_heads, -1).transpose(1, 2)

    query, key, value = heads(layer.query(y)), heads(layer.key(y)), heads(layer.value(y))
    query = query * cos + rotate_half(query) * sin
    key = key * cos + rotate_half(key) * sin
    if past:
        key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
    y = F.scaled_dot_product_attention(query, key, value, is_causal=not past)
    x = x + layer.output(y.transpose(1, 2).reshape(batch_size, length, width))
    y = layer.mlp_norm(x)
    return x + layer.down(F.silu(layer.gate(y)) * layer.up(y)), key, value


def export_onnx(request_file):
    """Write `prompt.onnx` and `token.onnx` into the request's folder."""
    request = json.loads(Path(request_file).read_text())
    parameters, batch_size = request["parameters"], request["batch_size"]
    length, num_prompt = request["cache_length"], request["prompt_length"]
    decoder = Decoder(parameters, request["constants"], batch_size, length)
    decoder.rotations(torch.float32, "cpu")
    with np.load(request["weights"]) as weights:
        load_weights(decoder, parameters, weights)
    model = Exported(decoder).eval()
    names = [f"{kind}{i}" for i in range(parameters["num_layers"]) for kind in ("keys", "values")]
    shape = (batch_size, parameters["num_heads"], num_prompt, -1)
    kept = [torch.zeros(batch_size, num_prompt, parameters["width"]).view(shape) for _ in names]
    outputs = ["logits", *(f"new_{name}" for name in names)]
    num_kept = torch.export.Dim("num_kept", min=2, max=length)
    for file, num_tokens, past, lengths in (
        ("prompt.onnx", num_prompt, [], None),
        ("token.onnx", 1, kept, (None, [{2: num_kept} for _ in names])),
    ):
        torch.onnx.export(
            model,
            (torch.zeros(batch_size, num_tokens, dtype=torch.int64), past),
            str(Path(request["folder"]) / file),
            input_names=["tokens", *(names if past else [])],
            output_names=outputs,
            dynamic_shapes=lengths,
        )


if __name__ == "__main__":
    export_onnx(sys.argv[1])
