"""The decoder answering requests in MLX as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it: MLX's own modules, keys and values
in a cache of fixed length of which the filled part is attended to, and `mx.compile` of the model,
one graph for each position.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn

from benchmarks.contract.program import Effective
from workloads.transformer import inference_spec as spec
from workloads.transformer import network

IMPLEMENTS = {"transformer_infer"}


def build(problem, framework):
    return PlainInference(problem, framework)


class Layer(nn.Module):
    def __init__(self, parameters, constants):
        super().__init__()
        width, mlp_width = parameters["width"], parameters["mlp_width"]
        epsilon = constants["rms_norm_epsilon"]
        self.num_heads = parameters["num_heads"]
        self.rope = nn.RoPE(width // self.num_heads, base=constants["rotary_base"])
        self.attention_norm = nn.RMSNorm(width, eps=epsilon)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, eps=epsilon)
        self.gate = nn.Linear(width, mlp_width, bias=False)
        self.up = nn.Linear(width, mlp_width, bias=False)
        self.down = nn.Linear(mlp_width, width, bias=False)

    def __call__(self, x, cache, start):
        """The layer's output, and the cache with these tokens' keys and values."""
        batch_size, length, width = x.shape
        y = self.attention_norm(x)
        query, key, value = (
            part.reshape(batch_size, length, self.num_heads, -1).transpose(0, 2, 1, 3)
            for part in (self.query(y), self.key(y), self.value(y))
        )
        stop = start + length
        keys, values = cache
        keys[:, :, start:stop] = self.rope(key, offset=start)
        values[:, :, start:stop] = value
        y = mx.fast.scaled_dot_product_attention(
            self.rope(query, offset=start),
            keys[:, :, :stop],
            values[:, :, :stop],
            scale=1 / math.sqrt(query.shape[-1]),
            mask="causal" if length > 1 else None,
        )
        x = x + self.output(y.transpose(0, 2, 1, 3).reshape(batch_size, length, width))
        y = self.mlp_norm(x)
        return x + self.down(nn.silu(self.gate(y)) * self.up(y)), (keys, values)


class Decoder(nn.Module):
    """Llama 2."""

    def __init__(self, parameters, constants):
        super().__init__()
        width, size = parameters["width"], parameters["vocabulary_size"]
        self.embedding = nn.Embedding(size, width)
        self.layers = [Layer(parameters, constants) for _ in range(parameters["num_layers"])]
        self.norm = nn.RMSNorm(width, eps=constants["rms_norm_epsilon"])
        self.head = nn.Linear(width, size, bias=False)

    def __call__(self, tokens, caches, start):
        """Logits after the last of these tokens, the first of which is at `start`; the caches."""
        x = self.embedding(tokens)
        new_caches = []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = layer(x, cache, start)
            new_caches.append(cache)
        return self.head(self.norm(x[:, -1])), new_caches


class PlainInference:
    """The model, its prompts, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        if problem.case.way.precision != "fp32":
            raise ValueError("the plain code is in fp32")
        self.framework = framework
        self.work = problem.case.work
        self.parameters = problem.parameters
        self.is_decode = spec.is_decode(self.work)
        self.per_batch = spec.per_batch(self.work)
        self.model = Decoder(problem.parameters, problem.hyperparameters)
        self.run = self.model
        if problem.case.way.execution == "compiled":
            self.run = mx.compile(self.model, inputs=self.model.state)

    def export(self, weights):
        pass

    def load(self, weights):
        put = self.framework.put
        self.model.embedding.weight = put(weights["embedding/table"])
        self.model.norm.weight = put(weights["final_norm/scale"])
        self.model.head.weight = put(weights["head/kernel"].T)
        for index, layer in enumerate(self.model.layers):
            layer.attention_norm.weight = put(weights[f"layer{index}/attention_norm/scale"])
            layer.mlp_norm.weight = put(weights[f"layer{index}/mlp_norm/scale"])
            projections = [
                *network.attention_projections(self.parameters, index),
                *network.mlp_projections(self.parameters, index),
            ]
            own = ("query", "key", "value", "output", "gate", "up", "down")
            for projection, name in zip(projections, own, strict=True):
                getattr(layer, name).weight = put(weights[f"{projection.name}/kernel"].T)
        num_heads = self.parameters["num_heads"]
        dimension = self.parameters["width"] // num_heads
        shape = (self.work.batch_size, num_heads, spec.cache_length(self.work), dimension)
        self.caches = [(mx.zeros(shape), mx.zeros(shape)) for _ in self.model.layers]
        mx.eval(self.model.parameters(), self.caches)

    def feed(self, batches):
        put = self.framework.put
        self.batches = [
            (put(batch["tokens"]), put(batch["forced"]) if "forced" in batch else None)
            for batch in batches
        ]
        self.next = 0

    def prepare(self):
        if not self.is_decode:
            return None
        index, request = divmod(self.next, self.per_batch)
        prompt, forced = self.batches[index]
        if request == 0:
            self.answer(prompt, 0)
        if forced is not None:
            self.tokens = forced[:, request]
        return self.tokens

    def step(self):
        index, request = divmod(self.next, self.per_batch)
        self.next = (self.next + 1) % (len(self.batches) * self.per_batch)
        if self.is_decode:
            self.answer(self.tokens[:, None], spec.prompt_length(self.work) + request)
        else:
            self.answer(self.batches[index][0], 0)
        return self.tokens

    def answer(self, tokens, start):
        self.logits, self.caches = self.run(tokens, self.caches, start)
        self.tokens = self.logits.argmax(-1)
        mx.eval(self.tokens, self.caches)

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters="float32", activations="float32", flop_per_step=None, attention="mx.fast"
        )

    def artefact_bytes(self):
        return None
