"""The loss of step 1 in plain NumPy and float64, right or with one known mistake.

If an implementation's wrong loss equals a mistake's, that is reported as the cause. NumPy only.

Shapes: B batch, T positions, D width, H heads, K half of a head's dimension, F width of the MLP,
V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

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
    scales_scores: bool = True
    tied_to: str | None = None
    """The one whose weights embedding and head share (embedding or head); None if not tied."""
    lora_factor: float = 2.0
    """alpha / rank."""
    rotary_base: float = 10000.0


MISTAKES = {
    "RoPE rotates interleaved pairs, x[2k] with x[2k+1], in place of the halves": {
        "pairs": "interleaved"
    },
    "epsilon of RMSNorm: 1e-6 in place of 1e-5": {"rms_norm_epsilon": 1e-6},
    "the causal mask is off by one: each position sees the next one": {"future": 1},
    "the causal mask is off by one: each position sees those before it only": {"future": -1},
    "there is no causal mask": {"is_causal": False},
    "the head is tied to the embedding": {"tied_to": "embedding"},
    "the head is tied to the embedding, both with the head's weights": {"tied_to": "head"},
    "attention scores are not divided by the root of the head's dimension": {
        "scales_scores": False
    },
    "RoPE is left out": {"pairs": "none"},
}
LORA_MISTAKES = {
    "the adapters are left out": {"lora_factor": 0.0},
    "the adapters are not scaled by alpha / rank": {"lora_factor": 1.0},
}


def suspected_losses(
    parameters: Mapping[str, int], constants: Mapping[str, float], weights: Arrays, batch: Arrays
) -> Iterator[tuple[str, float]]:
    """Each mistake with the loss that it leads to, with the initial weights on this batch."""
    right = Mathematics(
        rms_norm_epsilon=constants["rms_norm_epsilon"],
        rotary_base=constants["rotary_base"],
        lora_factor=constants["lora_alpha"] / constants["lora_rank"],
    )
    has_adapters = any(name.endswith("/lora_a") for name in weights)
    for mistake, changes in {**MISTAKES, **(LORA_MISTAKES if has_adapters else {})}.items():
        wrong = dataclasses.replace(right, **changes)  # type: ignore[arg-type]
        yield mistake, loss(parameters, wrong, weights, batch)


def loss(parameters: Mapping[str, int], how: Mathematics, weights: Arrays, batch: Arrays) -> float:
    """The mean cross-entropy over all positions."""
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
    logits_BTV = x_BTD @ head_DV
    largest_BT1 = logits_BTV.max(-1, keepdims=True)
    sums_BT = np.log(np.exp(logits_BTV - largest_BT1).sum(-1)) + largest_BT1[..., 0]
    chosen_BT1 = np.take_along_axis(logits_BTV, batch["labels"][..., None].astype(np.int64), -1)
    return float((sums_BT - chosen_BT1[..., 0]).mean())


def _normalised(x_BTD: np.ndarray, scale_D: np.ndarray, how: Mathematics) -> np.ndarray:
    """RMSNorm, Zhang and Sennrich (2019)."""
    mean_BT1 = np.square(x_BTD).mean(-1, keepdims=True)
    normalised: np.ndarray = x_BTD / np.sqrt(mean_BT1 + how.rms_norm_epsilon)
    return normalised * np.asarray(scale_D, np.float64)


def _projected(name: str, x: np.ndarray, how: Mathematics, weights: Arrays) -> np.ndarray:
    y: np.ndarray = x @ np.asarray(weights[f"{name}/kernel"], np.float64)
    if f"{name}/lora_a" in weights and how.lora_factor:
        low = x @ np.asarray(weights[f"{name}/lora_a"], np.float64)
        y = y + how.lora_factor * (low @ np.asarray(weights[f"{name}/lora_b"], np.float64))
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
    scores_BHTT = query @ key.swapaxes(-1, -2)
    if how.scales_scores:
        scores_BHTT = scores_BHTT / np.sqrt(width // num_heads)
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
    hidden_BTF = gate_BTF / (1 + np.exp(-gate_BTF)) * up_BTF
    return _projected(f"{name}/down", hidden_BTF, how, weights)
