"""The decoder's fine-tune in PyTorch as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it: one `nn.Linear` for each
projection, rotation by concatenated halves, autocast for bf16, AdamW as torch has it by default.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.contract.program import Effective
from workloads.transformer import network

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}

FLOAT64 = torch.float64


def build(problem, framework):
    return PlainTraining(problem, framework)


class LoraLinear(nn.Module):
    """A projection, frozen beside an adapter where there is LoRA."""

    def __init__(self, name, num_inputs, num_outputs, constants):
        super().__init__()
        self.name = name
        self.linear = nn.Linear(num_inputs, num_outputs, bias=False)
        self.rank = int(constants.get("lora_rank", 0))
        if self.rank:
            self.scale = constants["lora_alpha"] / constants["lora_rank"]
            self.lora_a = nn.Linear(num_inputs, self.rank, bias=False)
            self.lora_b = nn.Linear(self.rank, num_outputs, bias=False)

    def forward(self, x):
        y = self.linear(x)
        if self.rank:
            y = y + self.scale * self.lora_b(self.lora_a(x))
        return y


class RMSNorm(nn.Module):
    def __init__(self, name, width, epsilon):
        super().__init__()
        self.name = name
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x):
        wide = x if x.dtype == FLOAT64 else x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (self.weight * wide).to(x.dtype)


def rotate_half(x):
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


class Layer(nn.Module):
    def __init__(self, parameters, index, constants):
        super().__init__()
        self.num_heads = parameters["num_heads"]
        epsilon, width = constants["rms_norm_epsilon"], parameters["width"]
        self.attention_norm = RMSNorm(f"layer{index}/attention_norm", width, epsilon)
        self.mlp_norm = RMSNorm(f"layer{index}/mlp_norm", width, epsilon)

        def linear(one):
            return LoraLinear(one.name, one.num_inputs, one.num_outputs, constants)

        self.query, self.key, self.value, self.output = map(
            linear, network.attention_projections(parameters, index)
        )
        self.gate, self.up, self.down = map(linear, network.mlp_projections(parameters, index))

    def forward(self, x, cos, sin):
        y = self.attention_norm(x)
        batch_size, length, width = y.shape

        def heads(z):
            return z.view(batch_size, length, self.num_heads, -1).transpose(1, 2)

        q, k, v = heads(self.query(y)), heads(self.key(y)), heads(self.value(y))
        q = (q * cos + rotate_half(q) * sin).to(v.dtype)
        k = (k * cos + rotate_half(k) * sin).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(y.transpose(1, 2).reshape(batch_size, length, width))
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    def __init__(self, parameters, constants, *, length, recompute):
        super().__init__()
        width, vocabulary_size = parameters["width"], parameters["vocabulary_size"]
        self.recompute = recompute
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.layers = nn.ModuleList(
            Layer(parameters, i, constants) for i in range(parameters["num_layers"])
        )
        self.norm = RMSNorm("final_norm", width, constants["rms_norm_epsilon"])
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        dimension = width // parameters["num_heads"]
        exponents = torch.arange(0, dimension, 2, dtype=FLOAT64) / dimension
        angles = (
            torch.arange(length, dtype=FLOAT64)[:, None] / constants["rotary_base"] ** exponents
        )
        angles = torch.cat([angles, angles], dim=-1)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens, dtype):
        x = self.embedding(tokens).to(dtype)
        for layer in self.layers:
            if self.recompute:
                x = checkpoint(layer, x, self.cos, self.sin, use_reentrant=False)
            else:
                x = layer(x, self.cos, self.sin)
        return self.head(self.norm(x))

    def canonical(self):
        tensors = {"embedding/table": self.embedding.weight, "head/kernel": self.head.weight}
        for module in self.modules():
            if isinstance(module, RMSNorm):
                tensors[f"{module.name}/scale"] = module.weight
            elif isinstance(module, LoraLinear):
                tensors[f"{module.name}/kernel"] = module.linear.weight
                if module.rank:
                    tensors[f"{module.name}/lora_a"] = module.lora_a.weight
                    tensors[f"{module.name}/lora_b"] = module.lora_b.weight
        return tensors


class PlainTraining:
    """The training loop's body, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        way = problem.case.way
        self.framework = framework
        self.constants = problem.hyperparameters
        self.device = "cuda" if problem.case.place.device == "cuda" else "cpu"
        self.precision = way.precision
        self.model = Decoder(
            problem.parameters,
            problem.hyperparameters,
            length=network.sequence_length(problem.case.work),
            recompute=dict(way.options).get("recompute") == "full",
        ).to(self.device)
        self.is_lora = "lora_rank" in problem.hyperparameters
        master = {"fp64": FLOAT64, "bf16_pure": torch.bfloat16}.get(way.precision, torch.float32)
        self.model.to(master)
        if way.precision != "fp64":
            self.model.cos, self.model.sin = self.model.cos.float(), self.model.sin.float()
        self.tensors = self.model.canonical()
        for name, tensor in self.tensors.items():
            tensor.requires_grad_(not self.is_lora or network.is_adapter(name))
            if not tensor.requires_grad and way.precision == "bf16":
                tensor.data = tensor.data.bfloat16()
        self.forward = self.compute_loss
        if way.execution == "compiled":
            self.forward = torch.compile(self.compute_loss)

    def load(self, weights):
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(turned(name, self.framework.put(weights[name])))
        trained = {n: t for n, t in self.tensors.items() if t.requires_grad}
        decay = self.constants["weight_decay"]
        decayed = [t for n, t in trained.items() if network.is_decayed(n)]
        others = [t for n, t in trained.items() if not network.is_decayed(n)]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": decay},
                *([{"params": others, "weight_decay": 0.0}] if others else []),
            ],
            lr=self.constants["learning_rate"],
            betas=(self.constants["beta1"], self.constants["beta2"]),
            eps=self.constants["epsilon"],
        )

    def feed(self, batches):
        put = self.framework.put
        self.batches = [(put(b["tokens"]), put(b["labels"]).long()) for b in batches]
        self.next = 0

    def step(self):
        tokens, labels = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        self.optimizer.zero_grad()
        loss = self.forward(tokens, labels)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()
        return self.loss

    def compute_loss(self, tokens, labels):
        dtype = self.tensors["embedding/table"].dtype
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(tokens, torch.bfloat16 if self.precision == "bf16" else dtype)
        logits = logits if self.precision == "fp64" else logits.float()
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    def read(self):
        get = self.framework.get
        arrays = {"loss": get(self.loss)}
        for name, tensor in self.tensors.items():
            if not tensor.requires_grad:
                arrays[f"frozen/{name}"] = get(turned(name, tensor))
                continue
            state = self.optimizer.state[tensor]
            arrays[f"weights/{name}"] = get(turned(name, tensor))
            arrays[f"optimizer/{name}"] = get(turned(name, state["exp_avg"]))
            arrays[f"second_moment/{name}"] = get(turned(name, state["exp_avg_sq"]))
        return arrays

    def inspect(self):
        tensor = next(tensor for tensor in self.tensors.values() if tensor.requires_grad)
        name = str(tensor.dtype).removeprefix("torch.")
        return Effective(
            parameters=name,
            gradients=name,
            optimizer=str(self.optimizer.state[tensor]["exp_avg"].dtype).removeprefix("torch."),
            activations="bfloat16" if self.precision.startswith("bf16") else name,
            flop_per_step=None,
            attention="sdpa",
        )


def turned(name, tensor):
    return tensor if tensor.ndim < 2 or name == "embedding/table" else tensor.T
