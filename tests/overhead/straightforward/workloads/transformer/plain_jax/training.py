"""The decoder's fine-tune in JAX as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. Flax linen's own layers, JAX's own
attention, Optax's AdamW, one jitted step that donates its state.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, path_aware_map, unflatten_dict

from benchmarks.contract.program import Effective
from workloads.transformer import network

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}

COMPUTE_DTYPES = {"bf16": jnp.bfloat16, "bf16_pure": jnp.bfloat16, "fp64": jnp.float64}
PARAM_DTYPES = {"bf16_pure": jnp.bfloat16, "fp64": jnp.float64}


def build(problem, framework):
    return PlainTraining(problem, framework)


class LoRADense(nn.Module):
    """A dense layer whose kernel is frozen, and its adapter."""

    features: int
    rank: int
    alpha: float
    dtype: object

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        a = self.param("lora_a", init, (x.shape[-1], self.rank))
        b = self.param("lora_b", nn.initializers.zeros, (self.rank, self.features))
        kernel, a, b = (array.astype(self.dtype) for array in (kernel, a, b))
        return x @ kernel + self.alpha / self.rank * ((x @ a) @ b)


class Decoder(nn.Module):
    """Llama 2."""

    parameters: dict
    constants: dict
    dtype: object
    param_dtype: object
    recompute: bool

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(
            self.parameters["vocabulary_size"],
            self.parameters["width"],
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="embedding",
        )(tokens)
        layer = nn.remat(Layer) if self.recompute else Layer
        for index in range(self.parameters["num_layers"]):
            x = layer(
                self.parameters,
                self.constants,
                self.dtype,
                self.param_dtype,
                name=f"layer{index}",
            )(x)
        x = nn.RMSNorm(
            epsilon=self.constants["rms_norm_epsilon"],
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="final_norm",
        )(x)
        logits = nn.Dense(
            self.parameters["vocabulary_size"],
            use_bias=False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="head",
        )(x)
        return logits.astype(jnp.promote_types(self.dtype, jnp.float32))


class Layer(nn.Module):
    parameters: dict
    constants: dict
    dtype: object
    param_dtype: object

    @nn.compact
    def __call__(self, x):
        config = (self.parameters, self.constants, self.dtype, self.param_dtype)
        x = x + Attention(*config, name="attention")(self.norm("attention_norm")(x))
        return x + MLP(*config, name="mlp")(self.norm("mlp_norm")(x))

    def norm(self, name):
        return nn.RMSNorm(
            epsilon=self.constants["rms_norm_epsilon"],
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )


class Block(nn.Module):
    """What attention and MLP share."""

    parameters: dict
    constants: dict
    dtype: object
    param_dtype: object

    def dense(self, name, features):
        if "lora_rank" in self.constants:
            rank, alpha = int(self.constants["lora_rank"]), self.constants["lora_alpha"]
            return LoRADense(features, rank, alpha, self.dtype, name=name)
        return nn.Dense(
            features, use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype, name=name
        )


class Attention(Block):
    @nn.compact
    def __call__(self, x):
        batch_size, length, width = x.shape
        heads = (batch_size, length, self.parameters["num_heads"], -1)
        query = rope(self.dense("query", width)(x).reshape(heads), self.constants["rotary_base"])
        key = rope(self.dense("key", width)(x).reshape(heads), self.constants["rotary_base"])
        value = self.dense("value", width)(x).reshape(heads)
        y = causal_attention(query, key, value).reshape(x.shape)
        return self.dense("output", width)(y)


class MLP(Block):
    @nn.compact
    def __call__(self, x):
        gate = self.dense("gate", self.parameters["mlp_width"])(x)
        up = self.dense("up", self.parameters["mlp_width"])(x)
        return self.dense("down", x.shape[-1])(nn.silu(gate) * up)


def rope(x, base):
    """Rotary embedding on the halves of each head."""
    length, dimension = x.shape[1], x.shape[3]
    angles = np.arange(length)[:, None] * base ** -(np.arange(0, dimension, 2) / dimension)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    cos = jnp.asarray(np.cos(angles), dtype)[:, None]
    sin = jnp.asarray(np.sin(angles), dtype)[:, None]
    first, second = jnp.split(x.astype(dtype), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def causal_attention(query, key, value):
    """JAX's own, but for fp64: its softmax is always in float32."""
    if query.dtype != jnp.float64:
        return jax.nn.dot_product_attention(query, key, value, is_causal=True)
    length = query.shape[1]
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)


class PlainTraining:
    """The training loop's body, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        way, constants = problem.case.way, problem.hyperparameters
        self.framework = framework
        self.lora = "lora_rank" in constants
        self.dtype = COMPUTE_DTYPES.get(way.precision, jnp.float32)
        self.param_dtype = PARAM_DTYPES.get(way.precision, jnp.float32)
        self.model = Decoder(
            problem.parameters,
            constants,
            self.dtype,
            self.param_dtype,
            recompute=dict(way.options)["recompute"] == "full",
        )
        self.optimizer = optax.adamw(
            constants["learning_rate"],
            b1=constants["beta1"],
            b2=constants["beta2"],
            eps=constants["epsilon"],
            weight_decay=constants["weight_decay"],
            mask=lambda params: path_aware_map(lambda path, _: path[-1] != "scale", params),
        )
        self.train_step = jax.jit(self.train_step, donate_argnums=0)

    def load(self, weights):
        trained, frozen = {}, {}
        for name, array in weights.items():
            is_frozen = self.lora and not network.is_adapter(name)
            values, dtype = (frozen, self.dtype) if is_frozen else (trained, self.param_dtype)
            values[flax_path(name)] = self.framework.put(array.astype(dtype))
        params, self.frozen = unflatten_dict(trained), frozen
        self.state = (params, self.optimizer.init(params))

    def feed(self, batches):
        put = self.framework.put
        self.batches = [(put(batch["tokens"]), put(batch["labels"])) for batch in batches]
        self.next = 0

    def step(self):
        tokens, labels = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        self.state, self.loss = self.train_step(self.state, self.frozen, tokens, labels)
        return self.loss

    def read(self):
        params, optimizer = self.state
        groups = {
            "weights": params,
            "optimizer": optax.tree.get(optimizer, "mu"),
            "second_moment": optax.tree.get(optimizer, "nu"),
            "frozen": unflatten_dict(self.frozen),
        }
        arrays = {"loss": self.framework.get(self.loss)}
        for group, tree in groups.items():
            for path, value in flatten_dict(tree).items():
                arrays[f"{group}/{canonical_name(path)}"] = self.framework.get(value)
        return arrays

    def inspect(self):
        params, optimizer = self.state
        parameter = jax.tree.leaves(params)[0]
        return Effective(
            parameters=str(parameter.dtype),
            gradients=str(parameter.dtype),
            optimizer=str(jax.tree.leaves(optax.tree.get(optimizer, "mu"))[0].dtype),
            activations=str(jnp.dtype(self.dtype)),
            flop_per_step=None,
            attention="xla",
        )

    def train_step(self, state, frozen, tokens, labels):
        params, optimizer = state

        def loss_fn(params):
            merged = unflatten_dict({**flatten_dict(params), **frozen})
            logits = self.model.apply({"params": merged}, tokens)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, gradients = jax.value_and_grad(loss_fn)(params)
        updates, optimizer = self.optimizer.update(gradients, optimizer, params)
        return (optax.apply_updates(params, updates), optimizer), loss


def flax_path(name):
    """embedding/table -> (embedding, embedding); the others are Flax's paths as they are."""
    return ("embedding", "embedding") if name == "embedding/table" else tuple(name.split("/"))


def canonical_name(path):
    """The inverse of `flax_path`."""
    return "embedding/table" if path == ("embedding", "embedding") else "/".join(path)
