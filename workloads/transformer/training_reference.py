"""The loss of step 1 in plain NumPy and float64, right or with one known mistake.

If an implementation's wrong loss equals a mistake's, that is reported as the cause. NumPy and
the contract only.

Shapes: B batch, T positions, D width, H heads, K half of a head's dimension, F width of the MLP,
V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.contract.mistake import OtherConstant, Outcome, rounded
from workloads.cross_entropy import Items

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Mathematics:
    """Where an implementation may go wrong; the defaults are right."""

    pairs: str = "half"
    """The pairs that RoPE rotates: x[k] with x[k + K] (half), or x[2k] with x[2k + 1]."""
    rms_norm_epsilon: float = 1e-5
    future: int = 0
    """How many later positions each position attends to."""
    is_causal: bool = True
    score_power: float = 0.5
    """Attention scores are divided by this power of the head's dimension."""
    is_swapped: bool = False
    """Whether the MLP's gate and up are swapped: the rectified one is up."""
    operand_bits: int | None = None
    """Significant bits to which the operands of every projection are rounded; None: all kept."""
    logits_bits: int | None = None
    """Significant bits to which the logits and their gradient are rounded; None: all kept."""
    tied_to: str | None = None
    """The one whose weights embedding and head share (embedding or head); None if not tied."""
    lora_factor: float = 2.0
    """alpha / rank."""
    rotary_base: float = 10000.0


MISTAKES: Mapping[str, Mapping[str, Any]] = {
    "RoPE rotates interleaved pairs, x[2k] with x[2k+1], in place of the halves": {
        "pairs": "interleaved"
    },
    "epsilon of RMSNorm: 1e-06 in place of 1e-05": {"rms_norm_epsilon": 1e-6},
    "the causal mask is off by one: each position sees the next one": {"future": 1},
    "the causal mask is off by one: each position sees those before it only": {"future": -1},
    "there is no causal mask": {"is_causal": False},
    "the head is tied to the embedding": {"tied_to": "embedding"},
    "the head is tied to the embedding, both with the head's weights": {"tied_to": "head"},
    "attention scores are not divided by the root of the head's dimension": {"score_power": 0.0},
    "attention scores are divided by the head's dimension, not by its root": {"score_power": 1.0},
    "the MLP's gate and up are swapped": {"is_swapped": True},
    "the logits are rounded to bfloat16": {"logits_bits": 8},
    "the program rounds the operands of every projection to 11 significant bits, as TF32 does": {
        "operand_bits": 11
    },
    "the program rounds the operands of every projection to 8 significant bits, as bfloat16 does": {
        "operand_bits": 8
    },
    "RoPE is left out": {"pairs": "none"},
}
LORA_MISTAKES: Mapping[str, Mapping[str, Any]] = {
    "the adapters are left out": {"lora_factor": 0.0},
    "the adapters are not scaled by alpha / rank": {"lora_factor": 1.0},
}


EPSILONS = (1e-6, 1e-8)
"""Other epsilons of RMSNorm that are common."""
ROTARY_BASES = (500000.0, 1000000.0)
"""Other bases of RoPE that are common: those of Llama 3 and of long contexts."""


def suspected_steps(
    parameters: Mapping[str, int], constants: Mapping[str, float], weights: Arrays, batch: Arrays
) -> Iterator[tuple[str, Outcome]]:
    """Each mistake with step 1 as it makes it, from the initial weights on this batch."""
    right = right_mathematics(constants)
    has_adapters = any(name.endswith("/lora_a") for name in weights)
    for mistake, changes in {**MISTAKES, **(LORA_MISTAKES if has_adapters else {})}.items():
        wrong = dataclasses.replace(right, **changes)
        yield mistake, last_layer(parameters, wrong, weights, batch).outcome()
    items = last_layer(parameters, right, weights, batch)
    for mistake, labels_BT in _other_labels(batch):
        yield mistake, dataclasses.replace(items, labels_N=labels_BT.ravel()).outcome()
    is_kept_N = batch["labels"].ravel() != 0
    if 0 < is_kept_N.sum() < is_kept_N.size:
        yield (
            "labels: token 0 is ignored, as padding would be",
            dataclasses.replace(items, weights_N=is_kept_N / is_kept_N.sum()).outcome(),
        )


def _other_labels(batch: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    labels_BT = batch["labels"]
    yield "labels are not shifted: each is its own token", batch["tokens"]
    yield "labels are shifted twice: each is the token after the next", np.roll(labels_BT, -1, 1)
    yield "labels are shifted the wrong way: each is the token before", np.roll(labels_BT, 2, 1)


def suspected_constants(
    parameters: Mapping[str, int], constants: Mapping[str, float], weights: Arrays, batch: Arrays
) -> Iterator[OtherConstant]:
    """The constants of the forward pass that may have another value."""
    right = right_mathematics(constants)

    def constant(name: str, field: str, others: tuple[float, ...]) -> OtherConstant:
        def outcome(value: float) -> Outcome:
            wrong = dataclasses.replace(right, **{field: value})  # type: ignore[arg-type]
            return last_layer(parameters, wrong, weights, batch).outcome()

        return OtherConstant(name, getattr(right, field), outcome, others)

    yield constant("epsilon of RMSNorm", "rms_norm_epsilon", EPSILONS)
    yield constant("base of RoPE", "rotary_base", ROTARY_BASES)
    yield last_layer(parameters, right, weights, batch).smoothed()


def right_mathematics(constants: Mapping[str, float]) -> Mathematics:
    """The mathematics of these hyperparameters."""
    return Mathematics(
        rms_norm_epsilon=constants["rms_norm_epsilon"],
        rotary_base=constants["rotary_base"],
        lora_factor=constants["lora_alpha"] / constants["lora_rank"],
    )


def loss(parameters: Mapping[str, int], how: Mathematics, weights: Arrays, batch: Arrays) -> float:
    """The mean cross-entropy over all positions."""
    return float(last_layer(parameters, how, weights, batch).outcome()["loss"])


def last_layer(
    parameters: Mapping[str, int], how: Mathematics, weights: Arrays, batch: Arrays
) -> Items:
    """What the head takes and gives at all positions."""
    table_VD = np.asarray(weights["embedding/table"], np.float64)
    head_DV = np.asarray(weights["head/kernel"], np.float64)
    if how.tied_to == "embedding":
        head_DV = table_VD.T
    elif how.tied_to == "head":
        table_VD = head_DV.T
    x_BTD = table_VD[batch["tokens"]]
    for layer in range(parameters["num_layers"]):
        name = f"layer{layer}"
        y_BTD = _normalised(x_BTD, weights[f"{name}/attention_norm/scale"], how)
        x_BTD = x_BTD + _attention(f"{name}/attention", y_BTD, parameters, how, weights)
        y_BTD = _normalised(x_BTD, weights[f"{name}/mlp_norm/scale"], how)
        x_BTD = x_BTD + _mlp(f"{name}/mlp", y_BTD, how, weights)
    x_BTD = _normalised(x_BTD, weights["final_norm/scale"], how)
    x_ND = x_BTD.reshape(-1, x_BTD.shape[-1])
    logits_NV = _product(x_ND, head_DV, how)
    labels_N = batch["labels"].ravel().astype(np.int64)
    if how.operand_bits is not None:  # those of the gradient's product too
        to_operand = partial(rounded, bits=how.operand_bits)
        return Items(to_operand(x_ND), logits_NV, labels_N, round_gradient=to_operand)
    if how.logits_bits is not None:
        to_logits = partial(rounded, bits=how.logits_bits)
        return Items(x_ND, to_logits(logits_NV), labels_N, round_gradient=to_logits)
    return Items(x_ND, logits_NV, labels_N)


def _product(x: np.ndarray, kernel: np.ndarray, how: Mathematics) -> np.ndarray:
    if how.operand_bits is not None:
        x, kernel = rounded(x, how.operand_bits), rounded(kernel, how.operand_bits)
    return np.asarray(x @ np.asarray(kernel, np.float64))


def _normalised(x_BTD: np.ndarray, scale_D: np.ndarray, how: Mathematics) -> np.ndarray:
    """RMSNorm, Zhang and Sennrich (2019)."""
    mean_BT1 = np.square(x_BTD).mean(-1, keepdims=True)
    normalised: np.ndarray = x_BTD / np.sqrt(mean_BT1 + how.rms_norm_epsilon)
    return normalised * np.asarray(scale_D, np.float64)


def _projected(name: str, x: np.ndarray, how: Mathematics, weights: Arrays) -> np.ndarray:
    y = _product(x, weights[f"{name}/kernel"], how)
    if f"{name}/lora_a" in weights and how.lora_factor:
        low = how.lora_factor * _product(x, weights[f"{name}/lora_a"], how)
        y = y + _product(low, weights[f"{name}/lora_b"], how)
    return y


def _attention(
    name: str,
    x_BTD: np.ndarray,
    parameters: Mapping[str, int],
    how: Mathematics,
    weights: Arrays,
) -> np.ndarray:
    num_heads = parameters["num_heads"]
    batch_size, length, width = x_BTD.shape

    def heads(part: str) -> np.ndarray:
        y_BTD = _projected(f"{name}/{part}", x_BTD, how, weights)
        return y_BTD.reshape(batch_size, length, num_heads, -1).swapaxes(1, 2)

    query, key, value = _rotated(heads("query"), how), _rotated(heads("key"), how), heads("value")
    scores_BHTT = query @ key.swapaxes(-1, -2) / (width // num_heads) ** how.score_power
    if how.is_causal:
        scores_BHTT = np.where(_sees(length, how.future), scores_BHTT, -np.inf)
    scores_BHTT = np.exp(scores_BHTT - scores_BHTT.max(-1, keepdims=True))
    attention_BHTT = scores_BHTT / scores_BHTT.sum(-1, keepdims=True)
    mixed_BTD = (attention_BHTT @ value).swapaxes(1, 2).reshape(batch_size, length, width)
    return _projected(f"{name}/output", mixed_BTD, how, weights)


def _sees(length: int, future: int) -> np.ndarray:
    """The positions that each position attends to, TT; the first one at least to itself."""
    seen = np.tri(length, length, future, dtype=bool)
    seen[0, 0] = True
    return seen


def _rotated(x_BHTK2: np.ndarray, how: Mathematics) -> np.ndarray:
    """RoPE, Su et al. (2021), equation 34, on the pairs that `how` names."""
    if how.pairs == "none":
        return x_BHTK2
    length, dimension = x_BHTK2.shape[-2:]
    frequencies_K = how.rotary_base ** (-np.arange(0, dimension, 2) / dimension)
    angles_TK = np.arange(length)[:, None] * frequencies_K
    cos_TK, sin_TK = np.cos(angles_TK), np.sin(angles_TK)
    half = dimension // 2
    if how.pairs == "half":
        first, second = x_BHTK2[..., :half], x_BHTK2[..., half:]
    else:
        first, second = x_BHTK2[..., ::2], x_BHTK2[..., 1::2]
    turned = first * cos_TK - second * sin_TK, second * cos_TK + first * sin_TK
    if how.pairs == "half":
        return np.concatenate(turned, -1)
    return np.stack(turned, -1).reshape(x_BHTK2.shape)


def _mlp(name: str, x_BTD: np.ndarray, how: Mathematics, weights: Arrays) -> np.ndarray:
    """SwiGLU, Shazeer (2020)."""
    gate_BTF = _projected(f"{name}/gate", x_BTD, how, weights)
    up_BTF = _projected(f"{name}/up", x_BTD, how, weights)
    if how.is_swapped:
        gate_BTF, up_BTF = up_BTF, gate_BTF
    hidden_BTF = gate_BTF / (1 + np.exp(-gate_BTF)) * up_BTF
    return _projected(f"{name}/down", hidden_BTF, how, weights)
