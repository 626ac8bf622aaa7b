"""The decoder's training step in plain float64 PyTorch: what the oracle itself is tested with.

It follows the mathematics of workloads/transformer/README.md and nothing else: it shares no code
with the implementations, takes sequences and heads one by one, and is written to be read.
Run as `python -m tests.parity.transformer_reference WORKLOAD FOLDER` it saves its results there.

Shapes: B batch, T positions, D width, V vocabulary, K half of a head's dimension.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.contract.case import Work
from workloads.transformer import training_spec as spec

Tensors = dict[str, torch.Tensor]

NUM_FOLLOWED_STEPS = 10
LENGTH = 32
RANK, ALPHA = 16, 32
BETA1, BETA2, EPSILON, DECAY = 0.9, 0.95, 1e-5, 0.1


def work_of(workload: str) -> Work:
    """The work that is computed: tiny, with its own batch size and sequence length."""
    return Work(workload, 1, "tiny", 4, (("sequence_length", LENGTH),))


def reference_steps(
    work: Work,
    weights: Mapping[str, np.ndarray],
    batches: Sequence[Mapping[str, np.ndarray]],
    learning_rate: float,
) -> dict[str, np.ndarray]:
    """What `Program.read` must return after one step on each of these batches, in float64.

    Keys: `loss` of the last step, `losses` of each, `weights/<name>`, `optimizer/<name>` (first
    moment), `second_moment/<name>` and `frozen/<name>`, in canonical names and layout.
    """
    values = {name: torch.tensor(np.asarray(array, np.float64)) for name, array in weights.items()}
    has_adapters = any("lora" in name for name in values)
    trained = [name for name in values if not has_adapters or "lora" in name]
    first = {name: torch.zeros_like(values[name]) for name in trained}
    second = {name: torch.zeros_like(values[name]) for name in trained}
    losses = []
    for step, batch in enumerate(batches, start=1):
        for name in trained:
            values[name] = values[name].detach().requires_grad_(True)
        loss = _loss(spec.SIZES[work.size], values, batch)
        gradients = torch.autograd.grad(loss, [values[name] for name in trained])
        losses.append(loss.item())
        for name, gradient in zip(trained, gradients, strict=True):
            weight = values[name].detach()
            first[name] = BETA1 * first[name] + (1 - BETA1) * gradient
            second[name] = BETA2 * second[name] + (1 - BETA2) * gradient**2
            moved = first[name] / (1 - BETA1**step)
            root = torch.sqrt(second[name] / (1 - BETA2**step))
            decay = 0.0 if name.endswith("scale") else DECAY
            values[name] = weight - learning_rate * (moved / (root + EPSILON) + decay * weight)
    groups = {
        "weights": {name: values[name] for name in trained},
        "optimizer": first,
        "second_moment": second,
        "frozen": {name: value for name, value in values.items() if name not in trained},
    }
    return {
        "loss": np.array(losses[-1]),
        "losses": np.array(losses),
        **{
            f"{group}/{name}": value.detach().numpy()
            for group, members in groups.items()
            for name, value in members.items()
        },
    }


def _loss(
    parameters: Mapping[str, int], values: Tensors, batch: Mapping[str, np.ndarray]
) -> torch.Tensor:
    """Mean cross-entropy over every position of every sequence."""
    losses = []
    for tokens, labels in zip(batch["tokens"], batch["labels"], strict=True):
        logits_TV = _logits(parameters, values, torch.tensor(tokens).long())
        chosen_T = logits_TV[torch.arange(len(labels)), torch.tensor(labels).long()]
        losses.append(logits_TV.logsumexp(dim=1) - chosen_T)
    return torch.cat(losses).mean()


def _logits(parameters: Mapping[str, int], values: Tensors, tokens_T: torch.Tensor) -> torch.Tensor:
    """The logits of one sequence, TV."""
    x_TD = values["embedding/table"][tokens_T]
    for layer in range(parameters["num_layers"]):
        name = f"layer{layer}"
        y_TD = _normalised(x_TD, values[f"{name}/attention_norm/scale"])
        query, key, value = (
            _projected(f"{name}/attention/{part}", y_TD, values)
            for part in ("query", "key", "value")
        )
        heads = [
            _head(*(one.chunk(parameters["num_heads"], dim=1)[head] for one in (query, key, value)))
            for head in range(parameters["num_heads"])
        ]
        x_TD = x_TD + _projected(f"{name}/attention/output", torch.cat(heads, dim=1), values)
        y_TD = _normalised(x_TD, values[f"{name}/mlp_norm/scale"])
        gate = _projected(f"{name}/mlp/gate", y_TD, values)
        hidden = gate * torch.sigmoid(gate) * _projected(f"{name}/mlp/up", y_TD, values)
        x_TD = x_TD + _projected(f"{name}/mlp/down", hidden, values)
    return _normalised(x_TD, values["final_norm/scale"]) @ values["head/kernel"]


def _head(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """One head: each position's mean of the values so far, weighed by its scores."""
    query, key = _rotated(query), _rotated(key)
    scores_TT = query @ key.T / math.sqrt(query.shape[1])
    later_TT = torch.ones_like(scores_TT).triu(1).bool()
    return torch.softmax(scores_TT.masked_fill(later_TT, -math.inf), dim=1) @ value


def _rotated(x: torch.Tensor) -> torch.Tensor:
    """Element k and element k + K of each position turned by position / 10000^(k / K)."""
    half = x.shape[1] // 2
    angles = torch.stack(
        [
            torch.tensor([t / 10000.0 ** (k / half) for k in range(half)], dtype=torch.float64)
            for t in range(len(x))
        ]
    )
    turned = torch.polar(torch.ones_like(angles), angles) * torch.complex(x[:, :half], x[:, half:])
    return torch.cat([turned.real, turned.imag], dim=1)


def _normalised(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x / torch.sqrt((x**2).mean(dim=1, keepdim=True) + 1e-5) * scale


def _projected(name: str, x: torch.Tensor, values: Tensors) -> torch.Tensor:
    kernel = values[f"{name}/kernel"]
    if f"{name}/lora_a" in values:
        kernel = kernel + ALPHA / RANK * values[f"{name}/lora_a"] @ values[f"{name}/lora_b"]
    return x @ kernel


def main(workload: str, folder: Path) -> None:
    """Save a first step, the loss of one on another batch, and ten steps at the small rate."""
    work, own = work_of(workload), spec.SPECS[workload]
    weights = dict(own.weights(work))
    batches = [own.batch(work, index) for index in range(8)]
    usual, small = (values["learning_rate"] for values in (own.hyperparameters, own.trajectory))
    step = reference_steps(work, weights, batches[:1], usual)
    other = reference_steps(work, weights, batches[1:2], usual)
    rotated = [batches[index % len(batches)] for index in range(NUM_FOLLOWED_STEPS)]
    followed = reference_steps(work, weights, rotated, small)
    numbers = {"other_loss": float(other["loss"]), "losses": followed.pop("losses").tolist()}
    step.pop("losses")
    np.savez(folder / "step1.npz", **step)
    for group, file in (("optimizer", "followed"), ("second_moment", "followed_second")):
        states = {n.partition("/")[2]: a for n, a in followed.items() if n.startswith(f"{group}/")}
        np.savez(folder / f"{file}.npz", **states)
    (folder / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
