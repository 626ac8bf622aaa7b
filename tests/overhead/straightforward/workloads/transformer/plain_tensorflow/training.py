"""The decoder's fine-tune in TensorFlow as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it: one product for each projection,
attention by `tf.einsum`, AdamW by `assign`, one `tf.function`.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks.contract.program import Effective
from workloads.transformer import network

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}

COMPUTE_DTYPES = {"bf16": tf.bfloat16, "bf16_pure": tf.bfloat16, "fp64": tf.float64}
PARAM_DTYPES = {"bf16_pure": tf.bfloat16, "fp64": tf.float64}


def build(problem, framework):
    return PlainTraining(problem, framework)


class PlainTraining:
    """The training loop's body, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        way = problem.case.way
        self.framework = framework
        self.parameters = problem.parameters
        self.constants = problem.hyperparameters
        self.compute_dtype = COMPUTE_DTYPES.get(way.precision, tf.float32)
        self.param_dtype = PARAM_DTYPES.get(way.precision, tf.float32)
        self.wide_dtype = tf.float64 if way.precision == "fp64" else tf.float32
        self.is_lora = "lora_rank" in problem.hyperparameters
        self.recomputes = dict(way.options)["recompute"] == "full"
        self.make_tables(network.sequence_length(problem.case.work))
        self.variables = {}
        self.first_moments = {}
        self.second_moments = {}
        self.num_steps = tf.Variable(0.0, dtype=self.wide_dtype, trainable=False)
        self.run = self.train_step
        if way.execution != "eager":
            self.run = tf.function(self.train_step, jit_compile=way.execution == "compiled")

    def make_tables(self, length):
        head_size = self.parameters["width"] // self.parameters["num_heads"]
        base = self.constants["rotary_base"]
        frequencies = base ** -(np.arange(0, head_size, 2) / head_size)
        angles = np.arange(length)[:, None] * frequencies
        angles = np.concatenate([angles, angles], axis=-1)[:, None]
        self.cos = tf.constant(np.cos(angles), self.wide_dtype)
        self.sin = tf.constant(np.sin(angles), self.wide_dtype)
        self.mask = tf.constant(np.tril(np.ones((length, length), bool)))

    def load(self, weights):
        for name, array in weights.items():
            trainable = network.is_adapter(name) or not self.is_lora
            dtype = self.param_dtype if trainable else self.compute_dtype
            value = tf.cast(self.framework.put(array), dtype)
            if name not in self.variables:
                self.variables[name] = tf.Variable(value, trainable=trainable)
                if trainable:
                    zeros = tf.zeros_like(value)
                    self.first_moments[name] = tf.Variable(zeros, trainable=False)
                    self.second_moments[name] = tf.Variable(zeros, trainable=False)
            self.variables[name].assign(value)
            for moments in (self.first_moments, self.second_moments):
                if name in moments:
                    moments[name].assign(tf.zeros_like(value))
        self.num_steps.assign(0.0)

    def feed(self, batches):
        put = self.framework.put
        self.batches = [(put(batch["tokens"]), put(batch["labels"])) for batch in batches]
        self.next = 0

    def step(self):
        tokens, labels = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        self.loss = self.run(tokens, labels)
        return self.loss

    def read(self):
        get = self.framework.get
        arrays = {"loss": get(self.loss)}
        for name, variable in self.variables.items():
            group = "weights" if name in self.first_moments else "frozen"
            arrays[f"{group}/{name}"] = get(variable)
        for name in self.first_moments:
            arrays[f"optimizer/{name}"] = get(self.first_moments[name])
            arrays[f"second_moment/{name}"] = get(self.second_moments[name])
        return arrays

    def inspect(self):
        return Effective(
            parameters=self.param_dtype.name,
            gradients=self.param_dtype.name,
            optimizer=self.param_dtype.name,
            activations=self.compute_dtype.name,
            flop_per_step=None,
            attention="einsum, softmax, einsum",
        )

    def train_step(self, tokens, labels):
        with tf.GradientTape() as tape:
            logits = self.forward(tokens)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = tf.reduce_mean(losses)
        weights = {name: self.variables[name] for name in self.first_moments}
        gradients = tape.gradient(loss, weights)
        self.num_steps.assign_add(1.0)
        for name, weight in weights.items():
            self.update(name, weight, tf.convert_to_tensor(gradients[name]))
        return loss

    def update(self, name, weight, gradient):
        constants, wide = self.constants, self.wide_dtype
        learning_rate, beta1, beta2 = (
            tf.constant(constants[one], wide) for one in ("learning_rate", "beta1", "beta2")
        )
        first_moment, second_moment = self.first_moments[name], self.second_moments[name]
        gradient = tf.cast(gradient, wide)
        m = beta1 * tf.cast(first_moment, wide) + (1 - beta1) * gradient
        v = beta2 * tf.cast(second_moment, wide) + (1 - beta2) * gradient**2
        m_hat = m / (1 - beta1**self.num_steps)
        v_hat = v / (1 - beta2**self.num_steps)
        step = learning_rate * m_hat / (tf.sqrt(v_hat) + constants["epsilon"])
        if network.is_decayed(name):
            step += learning_rate * constants["weight_decay"] * tf.cast(weight, wide)
        first_moment.assign(tf.cast(m, first_moment.dtype))
        second_moment.assign(tf.cast(v, second_moment.dtype))
        weight.assign(tf.cast(tf.cast(weight, wide) - step, weight.dtype))

    def forward(self, tokens):
        x = tf.gather(self.variables["embedding/table"], tokens)
        x = tf.cast(x, self.compute_dtype)
        for index in range(self.parameters["num_layers"]):

            def layer(x, name=f"layer{index}"):
                return self.layer(name, x)

            x = tf.recompute_grad(layer)(x) if self.recomputes else layer(x)
        x = self.rms_norm("final_norm", x)
        return tf.cast(self.project("head", x), self.wide_dtype)

    def layer(self, name, x):
        x = x + self.attention(f"{name}/attention", self.rms_norm(f"{name}/attention_norm", x))
        y = self.rms_norm(f"{name}/mlp_norm", x)
        gate, up = self.project(f"{name}/mlp/gate", y), self.project(f"{name}/mlp/up", y)
        return x + self.project(f"{name}/mlp/down", tf.nn.silu(gate) * up)

    def attention(self, name, x):
        num_heads = self.parameters["num_heads"]
        batch_size, length, width = x.shape
        query, key, value = (
            tf.reshape(self.project(f"{name}/{part}", x), (batch_size, length, num_heads, -1))
            for part in ("query", "key", "value")
        )
        query, key = self.rotate(query), self.rotate(key)
        scores = tf.cast(tf.einsum("bqhk,bshk->bhqs", query, key), self.wide_dtype)
        scores /= (width // num_heads) ** 0.5
        scores = tf.where(self.mask, scores, tf.constant(-np.inf, scores.dtype))
        attention = tf.cast(tf.nn.softmax(scores), self.compute_dtype)
        mixed = tf.einsum("bhqs,bshk->bqhk", attention, value)
        return self.project(f"{name}/output", tf.reshape(mixed, (batch_size, length, width)))

    def rotate(self, x):
        wide = tf.cast(x, self.wide_dtype)
        first, second = tf.split(wide, 2, axis=-1)
        rotated = wide * self.cos + tf.concat([-second, first], axis=-1) * self.sin
        return tf.cast(rotated, self.compute_dtype)

    def rms_norm(self, name, x):
        wide = tf.cast(x, self.wide_dtype)
        mean = tf.reduce_mean(wide**2, axis=-1, keepdims=True)
        wide *= tf.math.rsqrt(mean + self.constants["rms_norm_epsilon"])
        return tf.cast(wide * self.weight(f"{name}/scale", self.wide_dtype), self.compute_dtype)

    def project(self, name, x):
        y = tf.matmul(x, self.weight(f"{name}/kernel"))
        if f"{name}/lora_a" in self.variables:
            low = tf.matmul(x, self.weight(f"{name}/lora_a"))
            scale = self.constants["lora_alpha"] / self.constants["lora_rank"]
            y += scale * tf.matmul(low, self.weight(f"{name}/lora_b"))
        return y

    def weight(self, name, dtype=None):
        return tf.cast(self.variables[name], dtype or self.compute_dtype)
