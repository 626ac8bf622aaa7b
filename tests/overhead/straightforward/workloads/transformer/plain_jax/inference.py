"""The decoder answering requests in JAX as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it: functions of a dictionary of
parameters, JAX's own attention, a cache that is donated.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract.program import Effective
from workloads.transformer import inference_spec as spec

IMPLEMENTS = {"transformer_infer"}

DTYPES = {"bf16": jnp.bfloat16, "fp64": jnp.float64}


def build(problem, framework):
    return PlainInference(problem, framework)


def rms_norm(x, scale, epsilon):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + epsilon)
    return (wide * scale).astype(x.dtype)


def rope(x, positions, base):
    """Rotary embedding on the halves of each head."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    frequencies = base ** -(np.arange(0, x.shape[-1], 2) / x.shape[-1])
    angles = positions[:, None, None].astype(wide) * frequencies.astype(wide)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def attention(query, keys, values, mask):
    """JAX's own, but for fp64: its softmax is always in float32."""
    if query.dtype != jnp.float64:
        return jax.nn.dot_product_attention(query, keys, values, mask=mask[None, None])
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, keys) / np.sqrt(query.shape[-1])
    scores = jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), values)


def forward(params, cache, tokens, start, *, parameters, constants):
    """The cache and the logits after the last of the tokens, the first of which is at `start`."""
    batch_size, length = tokens.shape
    epsilon, base = constants["rms_norm_epsilon"], constants["rotary_base"]
    heads = (batch_size, length, parameters["num_heads"], -1)
    positions = start + jnp.arange(length)
    x = params["embedding/table"][tokens]
    new_cache = []
    for index, (keys, values) in enumerate(cache):
        name = f"layer{index}"
        y = rms_norm(x, params[f"{name}/attention_norm/scale"], epsilon)
        query = rope((y @ params[f"{name}/attention/query/kernel"]).reshape(heads), positions, base)
        key = rope((y @ params[f"{name}/attention/key/kernel"]).reshape(heads), positions, base)
        value = (y @ params[f"{name}/attention/value/kernel"]).reshape(heads)
        keys = jax.lax.dynamic_update_slice_in_dim(keys, key, start, axis=1)
        values = jax.lax.dynamic_update_slice_in_dim(values, value, start, axis=1)
        new_cache.append((keys, values))
        if length > 1:
            y = attention(query, key, value, jnp.tri(length, dtype=bool))
        else:
            y = attention(query, keys, values, jnp.arange(keys.shape[1]) <= positions[:, None])
        x = x + y.reshape(x.shape) @ params[f"{name}/attention/output/kernel"]
        y = rms_norm(x, params[f"{name}/mlp_norm/scale"], epsilon)
        hidden = jax.nn.silu(y @ params[f"{name}/mlp/gate/kernel"])
        hidden = hidden * (y @ params[f"{name}/mlp/up/kernel"])
        x = x + hidden @ params[f"{name}/mlp/down/kernel"]
    y = rms_norm(x[:, -1], params["final_norm/scale"], epsilon)
    logits = (y @ params["head/kernel"]).astype(jnp.promote_types(x.dtype, jnp.float32))
    return new_cache, logits, logits.argmax(axis=-1)


class PlainInference:
    """The jitted function, its prompts, and the harness's protocol around them."""

    def __init__(self, problem, framework):
        work, self.parameters = problem.case.work, problem.parameters
        self.framework = framework
        self.work = work
        self.is_decode = spec.is_decode(work)
        self.per_batch = spec.per_batch(work)
        self.dtype = jnp.dtype(DTYPES.get(problem.case.way.precision, jnp.float32))
        own = partial(forward, parameters=self.parameters, constants=problem.hyperparameters)
        self.forward = jax.jit(own, donate_argnums=1)

    def export(self, weights):
        pass

    def load(self, weights):
        wide = jnp.promote_types(self.dtype, jnp.float32)
        self.params = {
            name: self.framework.put(array.astype(wide if "norm" in name else self.dtype))
            for name, array in weights.items()
        }
        num_heads = self.parameters["num_heads"]
        dimension = self.parameters["width"] // num_heads
        shape = (self.work.batch_size, spec.cache_length(self.work), num_heads, dimension)
        self.cache = [
            (jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))
            for _ in range(self.parameters["num_layers"])
        ]

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
            self.cache, _, self.tokens = self.forward(self.params, self.cache, prompt, 0)
        if forced is not None:
            self.tokens = forced[:, request]
        return self.cache, self.tokens

    def step(self):
        index, request = divmod(self.next, self.per_batch)
        self.next = (self.next + 1) % (len(self.batches) * self.per_batch)
        if self.is_decode:
            tokens, start = self.tokens[:, None], spec.prompt_length(self.work) + request
        else:
            tokens, start = self.batches[index][0], 0
        self.cache, self.logits, self.tokens = self.forward(self.params, self.cache, tokens, start)
        return self.tokens

    def read(self):
        return {"logits": self.framework.get(self.logits)}

    def inspect(self):
        return Effective(
            parameters=str(self.params["head/kernel"].dtype),
            activations=str(self.dtype),
            flop_per_step=None,
            attention="xla",
        )

    def artefact_bytes(self):
        return None
