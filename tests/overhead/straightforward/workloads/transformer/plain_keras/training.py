"""The decoder's fine-tune in Keras as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. Keras's own layers, attention,
adapters and loss; its AdamW but for epsilon, which stands beside the corrected root here, and for
gradients of an embedding, which are added up first.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from benchmarks.contract.program import Effective
from benchmarks.frameworks.keras.model import TrainedModel
from workloads.transformer import network

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}


def build(problem, framework):
    return PlainTraining(problem, framework)


class AdamW(keras.optimizers.AdamW):
    """With epsilon beside the corrected root."""

    def update_step(self, gradient, variable, learning_rate):
        # Keras 3.15 on TensorFlow squares the rows of a token that comes twice each by itself.
        gradient = ops.reshape(gradient, variable.shape)
        epsilon = self.epsilon
        step = ops.cast(self.iterations + 1, variable.dtype)
        beta_2 = ops.cast(self.beta_2, variable.dtype)
        self.epsilon = epsilon * ops.sqrt(1 - ops.power(beta_2, step))
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = epsilon


class RoPE(layers.Layer):
    """Rotary embedding on the halves of each head."""

    def __init__(self, base):
        super().__init__(dtype=keras.config.floatx())
        self.base = base

    def call(self, x):
        length, dimension = x.shape[1], x.shape[3]
        angles = np.arange(length)[:, None] * self.base ** -(np.arange(0, dimension, 2) / dimension)
        cos = ops.convert_to_tensor(np.cos(angles)[:, None], self.compute_dtype)
        sin = ops.convert_to_tensor(np.sin(angles)[:, None], self.compute_dtype)
        first, second = ops.split(x, 2, axis=-1)
        return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class CausalAttention(layers.Layer):
    def call(self, query, key, value):
        return ops.dot_product_attention(query, key, value, is_causal=True)


def decoder(problem, length):
    """The model; layers are named as the canonical arrays, _ for each slash."""
    parameters, constants = problem.parameters, problem.hyperparameters

    def dense(name, size, x):
        return layers.Dense(size, use_bias=False, name=name)(x)

    def norm(name, x):
        epsilon = constants["rms_norm_epsilon"]
        return layers.RMSNormalization(epsilon=epsilon, name=name)(x)

    tokens = keras.Input((length,), batch_size=problem.case.work.batch_size, dtype="int32")
    width, size = parameters["width"], parameters["vocabulary_size"]
    heads = layers.Reshape((length, parameters["num_heads"], width // parameters["num_heads"]))
    rope = RoPE(constants["rotary_base"])
    x = layers.Embedding(size, width, name="embedding")(tokens)
    for index in range(parameters["num_layers"]):
        layer = f"layer{index}"
        y = norm(f"{layer}_attention_norm", x)
        query, key, value = (
            heads(dense(f"{layer}_attention_{name}", width, y))
            for name in ("query", "key", "value")
        )
        y = CausalAttention()(rope(query), rope(key), value)
        x = x + dense(f"{layer}_attention_output", width, layers.Reshape((length, width))(y))
        y = norm(f"{layer}_mlp_norm", x)
        gate = dense(f"{layer}_mlp_gate", parameters["mlp_width"], y)
        up = dense(f"{layer}_mlp_up", parameters["mlp_width"], y)
        x = x + dense(f"{layer}_mlp_down", width, ops.silu(gate) * up)
    logits = dense("head", size, norm("final_norm", x))
    return TrainedModel(tokens, ops.cast(logits, keras.config.floatx()))


class PlainTraining:
    """Keras's train step, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        way, constants = problem.case.way, problem.hyperparameters
        if dict(way.options)["recompute"] != "none":
            raise ValueError("the plain code keeps every activation")
        self.framework = framework
        self.model = decoder(problem, network.sequence_length(problem.case.work))
        if "lora_rank" in constants:
            for layer in self.model.layers:
                layer.trainable = isinstance(layer, layers.Dense) and layer.name != "head"
                if layer.trainable:
                    layer.enable_lora(int(constants["lora_rank"]), constants["lora_alpha"])
            if keras.backend.backend() == "torch":
                # Keras 3.15 clears the gradients of the parameters that the model had when it was
                # built: without this those of the adapters would add up from step to step.
                self.model._track_variables()
        self.optimizer = AdamW(
            constants["learning_rate"],
            beta_1=constants["beta1"],
            beta_2=constants["beta2"],
            epsilon=constants["epsilon"],
            weight_decay=constants["weight_decay"],
        )
        self.optimizer.exclude_from_weight_decay(var_names=["scale"])
        self.training = framework.training(
            self.model,
            optimizer=self.optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def load(self, weights):
        self.training.sync()
        self.held = {name: self.variable(name) for name in weights}
        for name, array in weights.items():
            self.held[name].assign(self.framework.put(array))
        for variable in self.optimizer.variables:
            if variable is not self.optimizer._learning_rate:
                variable.assign(ops.zeros(variable.shape, variable.dtype))

    def variable(self, name):
        """The variable that holds a canonical array."""
        path, _, kind = name.rpartition("/")
        layer = self.model.get_layer(path.replace("/", "_"))
        own = {"table": "_embeddings", "kernel": "_kernel", "scale": "scale"}
        return getattr(layer, own.get(kind) or kind.replace("lora_", "lora_kernel_"))

    def feed(self, batches):
        put = self.framework.put
        self.batches = [
            (put(batch["tokens"]), put(batch["labels"].astype(np.int64))) for batch in batches
        ]
        self.next = 0

    def step(self):
        tokens, labels = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        self.loss = self.training.step(tokens, labels)
        return self.loss

    def read(self):
        self.training.sync()
        arrays = {"loss": self.framework.get(self.loss)}
        for name, variable in self.held.items():
            groups = {"frozen": variable}
            if variable.trainable:
                index = self.optimizer._get_variable_index(variable)
                groups = {
                    "weights": variable,
                    "optimizer": self.optimizer._momentums[index],
                    "second_moment": self.optimizer._velocities[index],
                }
            for group, one in groups.items():
                arrays[f"{group}/{name}"] = self.framework.get(one.value)
        return arrays

    def inspect(self):
        parameter = self.model.trainable_variables[0]
        return Effective(
            parameters=parameter.dtype,
            gradients=parameter.dtype,
            optimizer=self.optimizer._momentums[0].dtype,
            activations=self.model.get_layer("layer0_mlp_down").output.dtype,
            flop_per_step=None,
            attention="keras.ops.dot_product_attention",
        )
