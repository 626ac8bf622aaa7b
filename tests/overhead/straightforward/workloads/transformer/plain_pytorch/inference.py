"""The decoder answering requests in PyTorch as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it: the model that was trained, with a
static cache for keys and values, and `torch.compile(model)`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contract.program import Effective
from benchmarks.frameworks.pytorch.adapter import TORCH_DEVICES, dtype_name
from workloads.transformer import inference_spec as spec
from workloads.transformer import network

IMPLEMENTS = {"transformer_infer"}

DTYPES = {"bf16": torch.bfloat16, "fp64": torch.float64}


def build(problem, framework):
    return PlainInference(problem, framework)


class RMSNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x):
        wide = x if x.dtype == torch.float64 else x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (self.weight * wide).to(x.dtype)


def rotate_half(x):
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


class Layer(nn.Module):
    def __init__(self, parameters, epsilon, batch_size, length):
        super().__init__()
        width, mlp_width = parameters["width"], parameters["mlp_width"]
        self.num_heads = parameters["num_heads"]
        self.attention_norm = RMSNorm(width, epsilon)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.mlp_norm = RMSNorm(width, epsilon)
        self.gate = nn.Linear(width, mlp_width, bias=False)
        self.up = nn.Linear(width, mlp_width, bias=False)
        self.down = nn.Linear(mlp_width, width, bias=False)
        shape = (batch_size, self.num_heads, length, width // self.num_heads)
        self.register_buffer("keys", torch.zeros(shape))
        self.register_buffer("values", torch.zeros(shape))

    def forward(self, x, positions, cos, sin, mask):
        y = self.attention_norm(x)
        batch_size, length, width = y.shape

        def heads(z):
            return z.view(batch_size, length, self.num_heads, -1).transpose(1, 2)

        q, k, v = heads(self.query(y)), heads(self.key(y)), heads(self.value(y))
        q = (q * cos + rotate_half(q) * sin).to(v.dtype)
        k = (k * cos + rotate_half(k) * sin).to(v.dtype)
        self.keys.index_copy_(2, positions, k)
        self.values.index_copy_(2, positions, v)
        if length > 1:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask)
        x = x + self.output(y.transpose(1, 2).reshape(batch_size, length, width))
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    def __init__(self, parameters, constants, batch_size, length):
        super().__init__()
        width, epsilon = parameters["width"], constants["rms_norm_epsilon"]
        self.embedding = nn.Embedding(parameters["vocabulary_size"], width)
        self.layers = nn.ModuleList(
            Layer(parameters, epsilon, batch_size, length) for _ in range(parameters["num_layers"])
        )
        self.norm = RMSNorm(width, epsilon)
        self.head = nn.Linear(width, parameters["vocabulary_size"], bias=False)
        dimension = width // parameters["num_heads"]
        exponents = np.arange(0, dimension, 2) / dimension
        angles = np.arange(length)[:, None] / constants["rotary_base"] ** exponents
        self.angles = np.concatenate([angles, angles], axis=-1)
        self.register_buffer("mask", torch.ones(length, length, dtype=torch.bool).tril())

    def forward(self, tokens, positions):
        """Logits after the last of these tokens, which are at these positions."""
        x = self.embedding(tokens)
        cos, sin, mask = self.cos[positions], self.sin[positions], self.mask[positions]
        for layer in self.layers:
            x = layer(x, positions, cos, sin, mask)
        logits = self.head(self.norm(x[:, -1]))
        return logits if logits.dtype == torch.float64 else logits.float()

    def rotations(self, dtype, device):
        self.register_buffer("cos", torch.tensor(np.cos(self.angles), dtype=dtype, device=device))
        self.register_buffer("sin", torch.tensor(np.sin(self.angles), dtype=dtype, device=device))


class PlainInference:
    """The model, its prompts, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        case, self.parameters = problem.case, problem.parameters
        self.framework = framework
        self.is_decode = spec.is_decode(case.work)
        self.per_batch = spec.per_batch(case.work)
        device = TORCH_DEVICES[case.place.device]
        self.dtype = DTYPES.get(case.way.precision, torch.float32)
        length, first = spec.cache_length(case.work), spec.prompt_length(case.work)
        model = Decoder(self.parameters, problem.hyperparameters, case.work.batch_size, length)
        self.model = model.to(device, self.dtype).eval()
        self.model.rotations(torch.promote_types(self.dtype, torch.float32), device)
        self.run = self.model
        if case.way.execution == "compiled":
            self.run = torch.compile(self.model, dynamic=False)
        self.prompt = torch.arange(first, device=device)
        self.positions = torch.arange(first, length, device=device).split(1)

    def export(self, weights):
        pass

    def load(self, weights):
        load_weights(self.model, self.parameters, weights)

    def feed(self, batches):
        put = self.framework.put
        self.batches = [
            (put(batch["tokens"]), put(batch["forced"]) if "forced" in batch else None)
            for batch in batches
        ]
        self.next = 0

    @torch.no_grad()
    def prepare(self):
        if not self.is_decode:
            return None
        index, request = divmod(self.next, self.per_batch)
        prompt, forced = self.batches[index]
        if request == 0:
            self.tokens = self.run(prompt, self.prompt).argmax(-1)
        if forced is not None:
            self.tokens = forced[:, request]
        return self.tokens

    @torch.no_grad()
    def step(self):
        index, request = divmod(self.next, self.per_batch)
        self.next = (self.next + 1) % (len(self.batches) * self.per_batch)
        if self.is_decode:
            self.logits = self.run(self.tokens[:, None], self.positions[request])
        else:
            self.logits = self.run(self.batches[index][0], self.prompt)
        self.tokens = self.logits.argmax(-1)
        return self.tokens

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters=dtype_name(self.model.head.weight.dtype),
            activations=dtype_name(self.dtype),
            flop_per_step=None,
            attention="sdpa",
        )

    def artefact_bytes(self):
        return None


def load_weights(model, parameters, weights):
    """Canonical weights into the model."""
    tensors = {
        "embedding/table": model.embedding.weight,
        "final_norm/scale": model.norm.weight,
        "head/kernel": model.head.weight,
    }
    for index, layer in enumerate(model.layers):
        tensors[f"layer{index}/attention_norm/scale"] = layer.attention_norm.weight
        tensors[f"layer{index}/mlp_norm/scale"] = layer.mlp_norm.weight
        projections = [
            *network.attention_projections(parameters, index),
            *network.mlp_projections(parameters, index),
        ]
        own = (layer.query, layer.key, layer.value, layer.output, layer.gate, layer.up, layer.down)
        for projection, linear in zip(projections, own, strict=True):
            tensors[f"{projection.name}/kernel"] = linear.weight
    with torch.no_grad():
        for name, tensor in tensors.items():
            array = weights[name].T if name.endswith("/kernel") else weights[name]
            tensor.copy_(torch.from_numpy(np.array(array)))
