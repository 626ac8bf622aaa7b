"""The decoder's fine-tune in MLX as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. MLX's own modules, losses and
AdamW, in float32.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from benchmarks.contract.program import Effective

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}


def build(problem, framework):
    return PlainTraining(problem, framework)


class LoRALinear(nn.Module):
    """A linear layer whose weight is frozen, and its adapter."""

    def __init__(self, inputs, outputs, rank, alpha):
        super().__init__()
        self.weight = mx.zeros((outputs, inputs))
        self.lora_a = mx.zeros((inputs, rank))
        self.lora_b = mx.zeros((rank, outputs))
        self.scale = alpha / rank

    def __call__(self, x):
        return x @ self.weight.T + self.scale * ((x @ self.lora_a) @ self.lora_b)


class Attention(nn.Module):
    def __init__(self, width, num_heads, constants, linear):
        super().__init__()
        self.num_heads = num_heads
        self.query = linear(width, width)
        self.key = linear(width, width)
        self.value = linear(width, width)
        self.output = linear(width, width)
        self.rope = nn.RoPE(width // num_heads, base=constants["rotary_base"])

    def __call__(self, x):
        batch_size, length, width = x.shape
        query, key, value = (
            part.reshape(batch_size, length, self.num_heads, -1).transpose(0, 2, 1, 3)
            for part in (self.query(x), self.key(x), self.value(x))
        )
        y = mx.fast.scaled_dot_product_attention(
            self.rope(query),
            self.rope(key),
            value,
            scale=1 / math.sqrt(query.shape[-1]),
            mask="causal",
        )
        return self.output(y.transpose(0, 2, 1, 3).reshape(batch_size, length, width))


class MLP(nn.Module):
    def __init__(self, width, mlp_width, linear):
        super().__init__()
        self.gate = linear(width, mlp_width)
        self.up = linear(width, mlp_width)
        self.down = linear(mlp_width, width)

    def __call__(self, x):
        return self.down(nn.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    def __init__(self, parameters, constants, linear):
        super().__init__()
        width, epsilon = parameters["width"], constants["rms_norm_epsilon"]
        self.attention_norm = nn.RMSNorm(width, eps=epsilon)
        self.attention = Attention(width, parameters["num_heads"], constants, linear)
        self.mlp_norm = nn.RMSNorm(width, eps=epsilon)
        self.mlp = MLP(width, parameters["mlp_width"], linear)

    def __call__(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    """Llama 2."""

    def __init__(self, parameters, constants):
        super().__init__()
        width, size = parameters["width"], parameters["vocabulary_size"]
        self.embedding = nn.Embedding(size, width)
        self.layers = [
            Layer(parameters, constants, linear_of(constants))
            for _ in range(parameters["num_layers"])
        ]
        self.final_norm = nn.RMSNorm(width, eps=constants["rms_norm_epsilon"])
        self.head = nn.Linear(width, size, bias=False)

    def __call__(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.final_norm(x))


def linear_of(constants):
    """What makes a projection: MLX's own, or one with an adapter."""
    if "lora_rank" not in constants:
        return lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False)
    rank, alpha = int(constants["lora_rank"]), constants["lora_alpha"]
    return lambda inputs, outputs: LoRALinear(inputs, outputs, rank, alpha)


class PlainTraining:
    """The training loop's body, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        way, constants = problem.case.way, problem.hyperparameters
        if (way.precision, dict(way.options)["recompute"]) != ("fp32", "none"):
            raise ValueError("the plain code is in fp32 and keeps every activation")
        self.framework = framework
        self.model = Decoder(problem.parameters, constants)
        if "lora_rank" in constants:
            self.model.freeze()
            self.model.unfreeze(keys=["lora_a", "lora_b"], strict=False)
        self.constants = constants
        self.compiles = way.execution == "compiled"
        self.loss_and_grad = nn.value_and_grad(self.model, self.loss_of)

    def fresh_optimizer(self):
        config = {
            "learning_rate": self.constants["learning_rate"],
            "betas": [self.constants["beta1"], self.constants["beta2"]],
            "eps": self.constants["epsilon"],
            "bias_correction": True,
        }
        return optim.MultiOptimizer(
            [
                optim.AdamW(**config, weight_decay=0.0),
                optim.AdamW(**config, weight_decay=self.constants["weight_decay"]),
            ],
            [lambda path, _: "norm" in path],
        )

    def train_step(self, tokens, labels):
        loss, gradients = self.loss_and_grad(tokens, labels)
        self.optimizer.update(self.model, gradients)
        return loss

    def loss_of(self, tokens, labels):
        return nn.losses.cross_entropy(self.model(tokens), labels, reduction="mean")

    def load(self, weights):
        self.names = {mlx_path(name): name for name in weights}
        put = self.framework.put
        values = [(path, put(turned(name, weights[name]))) for path, name in self.names.items()]
        self.model.load_weights(values)
        self.optimizer = self.fresh_optimizer()
        self.optimizer.init(self.model.trainable_parameters())
        mx.eval(self.model.parameters(), self.optimizer.state)
        self.run = self.train_step
        if self.compiles:
            state = [self.model.state, self.optimizer.state]
            self.run = mx.compile(self.train_step, inputs=state, outputs=state)

    def feed(self, batches):
        put = self.framework.put
        self.batches = [(put(batch["tokens"]), put(batch["labels"])) for batch in batches]
        self.next = 0

    def step(self):
        tokens, labels = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        self.loss = self.run(tokens, labels)
        mx.eval(self.loss, self.model.parameters(), self.optimizer.state)
        return self.loss

    def read(self):
        arrays = {"loss": self.framework.get(self.loss)}
        trained = dict(tree_flatten(self.model.trainable_parameters()))
        moments = {}
        for optimizer in self.optimizer.optimizers:
            moments.update(tree_flatten(optimizer.state))
        for path, value in tree_flatten(self.model.parameters()):
            groups = {"frozen": value}
            if path in trained:
                groups = {
                    "weights": value,
                    "optimizer": moments[f"{path}.m"],
                    "second_moment": moments[f"{path}.v"],
                }
            name = self.names[path]
            for group, array in groups.items():
                arrays[f"{group}/{name}"] = turned(name, self.framework.get(array))
        return arrays

    def inspect(self):
        return Effective(
            parameters="float32",
            gradients="float32",
            optimizer="float32",
            activations="float32",
            flop_per_step=None,
            attention="mx.fast",
        )


def mlx_path(name):
    """layer0/attention/query/kernel -> layers.0.attention.query.weight."""
    *path, kind = name.split("/")
    if path[0].startswith("layer"):
        path[:1] = ["layers", path[0].removeprefix("layer")]
    kind = "weight" if kind in ("table", "kernel", "scale") else kind
    return ".".join([*path, kind])


def turned(name, array):
    """A kernel from IO to OI or back; every other array as it is."""
    return array.T.copy() if name.endswith("/kernel") else array
