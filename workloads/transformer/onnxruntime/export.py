"""Writes the decoder as ONNX, by PyTorch's exporter: for engines that run a graph.

One graph serves a prompt and a new token. Attention with a KV cache is ONNX Runtime's own operation
`com.microsoft.GroupQueryAttention`, which rotates, stores keys and values in place, and attends.
Normalisations are its operations too, each with the addition before it
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).

Run as `python -m workloads.transformer.onnxruntime.export FILE`.

Shapes: B batch, T tokens of a pass, S slots of the cache, D width, H heads, K head dimension, F
width of the MLP, V vocabulary, I inputs and O outputs of a projection.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from workloads.transformer import network

Arrays = Mapping[str, np.ndarray]


def export_onnx(request_file: str) -> None:
    """Write the decoder in float32, from tokens and caches to logits, output tokens and caches.

    The request is JSON: `parameters`, `constants`, `batch_size` and `cache_length` of the work,
    `weights` (canonical, an .npz file) and `output`. Inputs of the graph: `tokens` BT int64;
    `last`, B int32, the last position of this pass; `total`, a scalar int32, the number of
    positions up to there; `keys<layer>` and `values<layer>` BHSK. Outputs: `logits` BV after the
    last token; `answer` B int32, its argmax; `following` B1 int64, the same as the next input; and
    the caches, `kept_keys<layer>` and `kept_values<layer>`.
    """
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    with np.load(request["weights"]) as weights:
        decoder = Decoder(request, dict(weights)).eval().requires_grad_(False)
    num_layers, batch_size = request["parameters"]["num_layers"], request["batch_size"]
    length = min(2, request["cache_length"])
    arguments = (
        torch.zeros(batch_size, length, dtype=torch.int64),
        torch.full((batch_size,), length - 1, dtype=torch.int32),
        torch.tensor(length, dtype=torch.int32),
        [torch.zeros(decoder.cache_shape) for _ in range(num_layers)],
        [torch.zeros(decoder.cache_shape) for _ in range(num_layers)],
    )
    tokens = torch.export.Dim("num_tokens", min=1, max=request["cache_length"])
    torch.onnx.export(
        decoder,
        arguments,
        request["output"],
        dynamo=True,
        external_data=_is_large(decoder),
        verbose=False,
        input_names=["tokens", "last", "total", *cache_names(num_layers)],
        output_names=["logits", "answer", "following", *kept_names(num_layers)],
        dynamic_shapes=({1: tokens}, None, None, [None] * num_layers, [None] * num_layers),
    )


def cache_names(num_layers: int) -> list[str]:
    """Names of the inputs that are caches: the keys of each layer, then the values."""
    return [f"{kind}{layer}" for kind in ("keys", "values") for layer in range(num_layers)]


def kept_names(num_layers: int) -> list[str]:
    """Names of the outputs that are caches, in the same order."""
    return [f"kept_{name}" for name in cache_names(num_layers)]


def _is_large(decoder: nn.Module) -> bool:
    """Whether the weights are too large for one protobuf, which holds 2 GiB."""
    return bool(sum(one.numel() * one.element_size() for one in decoder.buffers()) > 2**30)


class Decoder(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The decoder from tokens and caches to logits, output tokens and caches."""

    def __init__(self, request: Mapping[str, Any], weights: Arrays) -> None:
        super().__init__()
        parameters, constants = request["parameters"], request["constants"]
        self.num_layers, self.num_heads = parameters["num_layers"], parameters["num_heads"]
        self.epsilon = constants["rms_norm_epsilon"]
        dimension = parameters["width"] // self.num_heads
        length = request["cache_length"]
        self.cache_shape = (request["batch_size"], self.num_heads, length, dimension)
        self._keep("table", weights["embedding/table"])
        for layer in range(self.num_layers):
            self._keep_layer(parameters, layer, weights)
        self._keep("final_scale", weights["final_norm/scale"])
        self._keep("head", weights["head/kernel"].T)
        frequencies = constants["rotary_base"] ** (-np.arange(0, dimension, 2) / dimension)
        angles = np.arange(length)[:, None] * frequencies
        self._keep("cos", np.cos(angles))
        self._keep("sin", np.sin(angles))

    def forward(
        self,
        tokens_BT: torch.Tensor,
        last_B: torch.Tensor,
        total: torch.Tensor,
        keys: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
    ) -> tuple[Any, ...]:
        """Logits, output tokens, the same as the next input, and caches with these tokens added."""
        x_BTD = F.embedding(tokens_BT, self.table)
        y_BTD = self._normalised(x_BTD, self.attention_scale0)
        kept_keys, kept_values = [], []
        for layer in range(self.num_layers):
            weight = self._of_layer(layer)
            parts = F.linear(y_BTD, weight["query_key_value"]).chunk(3, dim=-1)
            cache = keys[layer], values[layer]
            mixed_BTD, key_BHSK, value_BHSK = self._attended(parts, cache, last_B, total)
            kept_keys.append(key_BHSK)
            kept_values.append(value_BHSK)
            output_BTD = F.linear(mixed_BTD, weight["output"])
            y_BTD, x_BTD = self._added(x_BTD, output_BTD, weight["mlp_scale"])
            gate_BTF, up_BTF = F.linear(y_BTD, weight["gate_up"]).chunk(2, dim=-1)
            down_BTD = F.linear(F.silu(gate_BTF) * up_BTF, weight["down"])
            following = layer + 1 < self.num_layers
            scale = self._of_layer(layer + 1)["attention_scale"] if following else self.final_scale
            y_BTD, x_BTD = self._added(x_BTD, down_BTD, scale)
        logits_BV = F.linear(y_BTD[:, -1], self.head)
        following_B1 = logits_BV.argmax(-1, keepdim=True)
        return logits_BV, following_B1[:, 0].int(), following_B1, kept_keys, kept_values

    def _attended(
        self,
        parts: Sequence[torch.Tensor],
        cache: Sequence[torch.Tensor],
        last_B: torch.Tensor,
        total: torch.Tensor,
    ) -> Any:
        """Causal attention of each position, BTD, and the caches with these positions added."""
        return torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            (*parts, *cache, last_B, total, self.cos, self.sin),
            {
                "num_heads": self.num_heads,
                "kv_num_heads": self.num_heads,
                "do_rotary": 1,
                "rotary_interleaved": 0,
            },
            dtypes=(torch.float32,) * 3,
            shapes=(parts[0].shape, cache[0].shape, cache[1].shape),
            version=1,
        )

    def _normalised(self, x_BTD: torch.Tensor, scale_D: torch.Tensor) -> torch.Tensor:
        """RMSNorm, Zhang and Sennrich (2019)."""
        return torch.onnx.ops.symbolic(
            "SimplifiedLayerNormalization",
            (x_BTD, scale_D),
            {"axis": -1, "epsilon": self.epsilon, "stash_type": 1},
            dtype=torch.float32,
            shape=x_BTD.shape,
        )

    def _added(
        self, x_BTD: torch.Tensor, y_BTD: torch.Tensor, scale_D: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The normalised sum, and the sum."""
        normalised, _, _, total = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::SkipSimplifiedLayerNormalization",
            (x_BTD, y_BTD, scale_D),
            {"epsilon": self.epsilon},
            dtypes=(torch.float32,) * 4,
            shapes=(x_BTD.shape, x_BTD.shape[:-1], x_BTD.shape[:-1], x_BTD.shape),
            version=1,
        )
        return normalised, total

    def _keep_layer(self, parameters: Mapping[str, int], layer: int, weights: Arrays) -> None:
        for name, parts in network.layer_projections(parameters, layer)._asdict().items():
            kernels_IO = [weights[f"{part.name}/kernel"] for part in parts]
            self._keep(f"{name}{layer}", np.concatenate(kernels_IO, axis=1).T)
        for norm in ("attention", "mlp"):
            self._keep(f"{norm}_scale{layer}", weights[f"layer{layer}/{norm}_norm/scale"])

    def _of_layer(self, layer: int) -> dict[str, torch.Tensor]:
        names = ("attention_scale", "query_key_value", "output", "mlp_scale", "gate_up", "down")
        return {name: getattr(self, f"{name}{layer}") for name in names}

    def _keep(self, name: str, array: np.ndarray) -> None:
        self.register_buffer(name, torch.tensor(np.ascontiguousarray(array), dtype=torch.float32))


if __name__ == "__main__":
    export_onnx(sys.argv[1])
