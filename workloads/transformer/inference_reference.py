"""The logits of a prompt and of the tokens after it, in plain NumPy and float64, without a cache.

They are right, or have one known mistake: if a program's wrong logits match a mistake's, it is
reported as the likely cause. Whole sequences are computed at once: a fault of a cache is modelled
by the positions that each position attends to. NumPy and the contract only.

Shapes: B batch, P positions of the prompt, N new tokens, T = P + N positions, R requests, D width,
H heads, K head dimension, F width of the MLP, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.contract.mistake import OtherConstant, Outcome, rounded

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Mathematics:
    """Where a program may go wrong; the defaults are right. Decoded tokens follow the prompt."""

    rms_norm_epsilon: float = 1e-5
    rotary_base: float = 10000.0
    pairs: str = "half"
    """The pairs that RoPE rotates: x[k] with x[k + K / 2] (half), or x[2k] with x[2k + 1]."""
    is_tied: bool = False
    """Whether the head uses the embedding's weights."""
    future: int = 0
    """How many later positions each position of the prompt attends to."""
    decoded_future: int = 0
    """How many later positions a decoded token attends to; their slots are still empty."""
    is_causal: bool = True
    """Whether the prompt has a causal mask; else each position attends to the whole prompt."""
    decoded_shift: int = 0
    """How many positions too far decoded tokens are rotated."""
    decoded_at_zero: bool = False
    """Whether every decoded token is rotated as if at position 0."""
    is_kept: bool = True
    """Whether later tokens attend to decoded ones."""
    is_stored: bool = True
    """Whether the cache keeps decoded tokens; if not, later tokens attend to zeros instead."""
    is_written: bool = True
    """Whether the cache ever gets them; if not, a token attends to zeros in its own slot too."""
    sees_empty: bool = False
    """Whether decoded tokens attend to slots not yet written, which hold zeros."""
    lags: bool = False
    """Whether decoding begins with the prompt's last token once more."""
    row: int = -1
    """The position of the prompt whose logits are used."""
    forgets_first: bool = False
    """Whether decoded tokens do not attend to the prompt's first one."""
    cache_bits: int | None = None
    """Significant bits to which keys and values are rounded; None: all kept."""
    score_power: float = 0.5
    """Attention scores are divided by this power of the head's dimension."""
    is_swapped: bool = False
    """Whether the MLP's gate and up are swapped: the rectified one is up."""
    operand_bits: int | None = None
    """Significant bits to which the operands of every projection are rounded; None: all kept."""


MISTAKES: Mapping[str, Mapping[str, Any]] = {
    "RoPE rotates interleaved pairs, x[2k] with x[2k+1], in place of the halves": {
        "pairs": "interleaved"
    },
    "RoPE is left out": {"pairs": "none"},
    "the head is tied to the embedding": {"is_tied": True},
    "attention scores are not divided by the root of the head's dimension": {"score_power": 0.0},
    "attention scores are divided by the head's dimension, not by its root": {"score_power": 1.0},
    "the MLP's gate and up are swapped": {"is_swapped": True},
    "the program rounds the operands of every projection to 11 significant bits, as TF32 does": {
        "operand_bits": 11
    },
    "the program rounds the operands of every projection to 8 significant bits, as bfloat16 does": {
        "operand_bits": 8
    },
    "causal mask: there is none in the prompt": {"is_causal": False},
    "causal mask off by one: a token of the prompt sees the next one": {"future": 1},
    "causal mask off by one: a token does not see itself": {"future": -1, "decoded_future": -1},
}
PREFILL_MISTAKES: Mapping[str, Mapping[str, Any]] = {
    "the logits are of the position before the prompt's last": {"row": -2},
    "the logits are of the prompt's first position": {"row": 0},
}
DECODE_MISTAKES: Mapping[str, Mapping[str, Any]] = {
    "RoPE: decode rotates one position too far": {"decoded_shift": 1},
    "RoPE: decode rotates one position too early": {"decoded_shift": -1},
    "RoPE: decode rotates as at position 0 (the offset is missing)": {"decoded_at_zero": True},
    "KV cache: what decode computes is not kept (stale): later tokens see the prompt and themselves"
    " alone": {"is_kept": False},
    "KV cache: what decode computes is not kept (stale): later tokens attend to zeros there": {
        "is_stored": False
    },
    "KV cache: what decode computes is not written (stale): zeros are attended to in its place": {
        "is_written": False
    },
    "KV cache: slots not yet written are attended to (mask)": {"sees_empty": True},
    "KV cache: the slot after a token's own is attended to (mask)": {"decoded_future": 1},
    "causal mask off by one: a decoded token does not see itself": {"decoded_future": -1},
    "KV cache: decoded tokens do not see the prompt's first one": {"forgets_first": True},
    "KV cache: keys and values are kept in bfloat16": {"cache_bits": 8},
    "KV cache: keys and values are kept with 11 significant bits, as float16 has": {
        "cache_bits": 11
    },
    "decode lags by one token: it begins with the prompt's last once more": {"lags": True},
}


def suspected_logits(
    parameters: Mapping[str, int],
    right: Mathematics,
    weights: Arrays,
    batch: Arrays,
) -> Iterator[tuple[str, np.ndarray]]:
    """Each mistake with the logits RBV that it leads to; those of decode if the batch is forced."""
    own = DECODE_MISTAKES if "forced" in batch else PREFILL_MISTAKES
    for mistake, changes in {**own, **MISTAKES}.items():
        wrong = dataclasses.replace(right, **changes)
        if wrong.row + batch["tokens"].shape[1] >= 0:
            yield mistake, logits(parameters, wrong, weights, batch)


EPSILONS = (1e-6, 1e-8)
"""Other epsilons of RMSNorm that are common."""
ROTARY_BASES = (500000.0, 1000000.0)
"""Other bases of RoPE that are common: those of Llama 3 and of long contexts."""


def suspected_constants(
    parameters: Mapping[str, int], right: Mathematics, weights: Arrays, batch: Arrays
) -> Iterator[OtherConstant]:
    """The constants that may have another value."""

    def constant(name: str, field: str, others: tuple[float, ...]) -> OtherConstant:
        def outcome(value: float) -> Outcome:
            wrong = dataclasses.replace(right, **{field: value})  # type: ignore[arg-type]
            return {"logits": logits(parameters, wrong, weights, batch)}

        return OtherConstant(name, getattr(right, field), outcome, others)

    yield constant("epsilon of RMSNorm", "rms_norm_epsilon", EPSILONS)
    yield constant("base of RoPE", "rotary_base", ROTARY_BASES)


class OwnAnswers(NamedTuple):
    """The output of a program that is fed its own output (free-running decode)."""

    answers: np.ndarray
    """Output tokens, RB."""
    logits: np.ndarray
    """The program's logits, RBV."""


def continued_logits(
    parameters: Mapping[str, int],
    how: Mathematics,
    weights: Arrays,
    batch: Arrays,
    own: OwnAnswers,
    tolerance: Mapping[str, float],
) -> np.ndarray:
    """The expected logits RBV of a program that is fed its own output.

    Its first input is its output for the prompt, which is not among its answers. So every token is
    tried whose logit is within `timed` of the largest, in units of the row's rms, until the logits
    of all sequences are within `logits`; for each sequence, the nearest logits are returned.
    """

    def errors(full_RBV: np.ndarray) -> np.ndarray:
        off_B = np.linalg.norm(own.logits - full_RBV, axis=(0, 2))
        return np.asarray(off_B / np.linalg.norm(full_RBV, axis=(0, 2)))

    sequences = _sequences(parameters, how, weights, batch, own.answers, tolerance)
    return _nearest(sequences, errors, tolerance.get("logits", 0))


def handed_out_logits(
    parameters: Mapping[str, int],
    how: Mathematics,
    weights: Arrays,
    batch: Arrays,
    answers_RB: np.ndarray,
    tolerance: Mapping[str, float],
) -> np.ndarray:
    """The logits RBV after which a program that is fed its own output gave these answers.

    As `continued_logits`, without the program's logits: for each sequence those are returned in
    which the answers lie nearest to the largest logits.
    """

    def errors(full_RBV: np.ndarray) -> np.ndarray:
        chosen_RB = np.take_along_axis(full_RBV, answers_RB[..., None], -1)[..., 0]
        below_RB = (full_RBV.max(-1) - chosen_RB) / np.sqrt(np.square(full_RBV).mean(-1))
        return np.asarray(below_RB.max(0))

    sequences = _sequences(parameters, how, weights, batch, answers_RB, tolerance)
    return _nearest(sequences, errors, tolerance.get("timed", 0))


def _nearest(
    sequences: Iterator[tuple[np.ndarray, np.ndarray]],
    errors: Callable[[np.ndarray], np.ndarray],
    enough: float,
) -> np.ndarray:
    """For each sequence the possible logits RBV of least error, NaN where none is possible.

    Ends once every error is `enough` or less.
    """
    least_B, nearest_RBV = np.array(np.inf), np.array(np.nan)
    for is_possible_B, full_RBV in sequences:
        own_B = np.where(is_possible_B, errors(full_RBV), np.inf)
        is_nearer_B = own_B < least_B
        nearest_RBV = np.where(is_nearer_B[:, None], full_RBV, nearest_RBV)
        least_B = np.minimum(own_B, least_B)
        if (least_B <= enough).all():
            break
    return nearest_RBV


def _sequences(
    parameters: Mapping[str, int],
    how: Mathematics,
    weights: Arrays,
    batch: Arrays,
    answers_RB: np.ndarray,
    tolerance: Mapping[str, float],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each possible output for the prompt, likeliest first: where it is one (B), the logits."""
    prompt = {"tokens": batch["tokens"]}
    logits_BV = logits(parameters, how, weights, prompt)[0]
    below_BV = logits_BV.max(-1, keepdims=True) - logits_BV
    below_BV = below_BV / np.sqrt(np.square(logits_BV).mean(-1, keepdims=True))
    order_BV = np.argsort(below_BV, axis=-1, kind="stable")
    for first_B in order_BV.T:
        is_near_B = below_BV[np.arange(len(first_B)), first_B] <= tolerance.get("timed", 0)
        if not is_near_B.any():
            return
        taken_RB = np.concatenate([first_B[None], answers_RB[:-1]])
        yield is_near_B, logits(parameters, how, weights, {**prompt, "forced": taken_RB.T})


def logits(
    parameters: Mapping[str, int], how: Mathematics, weights: Arrays, batch: Arrays
) -> np.ndarray:
    """The logits after the prompt's last token, or after each forced token, RBV."""
    prompt_BP, forced_BN = batch["tokens"], batch.get("forced", batch["tokens"][:, :0])
    num_prompt, is_decode = prompt_BP.shape[1], "forced" in batch
    if how.lags:
        forced_BN = np.concatenate([prompt_BP[:, -1:], forced_BN[:, :-1]], 1)
    tokens_BT = np.concatenate([prompt_BP, forced_BN], 1)
    sequence = _sequence(num_prompt, tokens_BT.shape[1], how)
    table_VD = np.asarray(weights["embedding/table"], np.float64)
    head_DV = table_VD.T if how.is_tied else np.asarray(weights["head/kernel"], np.float64)
    x_BTD = table_VD[tokens_BT]
    shape_BTHK = (*tokens_BT.shape, parameters["num_heads"], -1)
    for layer in range(parameters["num_layers"]):
        name = f"layer{layer}"
        y_BTD = _normalised(x_BTD, weights[f"{name}/attention_norm/scale"], how)
        query, key, value = (
            _projected(f"{name}/attention/{part}", y_BTD, weights, how).reshape(*shape_BTHK)
            for part in ("query", "key", "value")
        )
        mixed_BTD = _attended(query, key, value, sequence, how).reshape(x_BTD.shape)
        x_BTD = x_BTD + _projected(f"{name}/attention/output", mixed_BTD, weights, how)
        y_BTD = _normalised(x_BTD, weights[f"{name}/mlp_norm/scale"], how)
        x_BTD = x_BTD + _mlp(f"{name}/mlp", y_BTD, weights, how)
    rows = slice(num_prompt, None) if is_decode else [how.row % num_prompt]
    x_BRD = _normalised(x_BTD[:, rows], weights["final_norm/scale"], how)
    return np.asarray(_product(x_BRD, head_DV, how).swapaxes(0, 1))


class Sequence(NamedTuple):
    """The positions of a sequence, as attention uses them."""

    rotated_by: np.ndarray
    """The position by which each is rotated, T."""
    sees: np.ndarray
    """The positions that each one attends to, TT."""
    empty: np.ndarray
    """The positions where it attends to zeros, TT."""


def _sequence(num_prompt: int, num_all: int, how: Mathematics) -> Sequence:
    positions_T = np.arange(num_all)
    query_T1, key_T = positions_T[:, None], positions_T
    is_prompt_T1, is_prompt_T = query_T1 < num_prompt, key_T < num_prompt
    prompt_TT = ((key_T <= query_T1 + how.future) | (not how.is_causal)) & is_prompt_T
    decoded_TT = (key_T <= query_T1 + how.decoded_future) | how.sees_empty
    decoded_TT &= is_prompt_T | (key_T == query_T1) | how.is_kept
    decoded_TT &= (key_T > 0) | (not how.forgets_first)
    sees_TT = np.where(is_prompt_T1, prompt_TT, decoded_TT)
    sees_TT[0, 0] = True  # nothing else to attend to
    empty_TT = (key_T > query_T1) | (not how.is_written)
    empty_TT |= (key_T < query_T1) & (not how.is_stored)
    empty_TT &= ~is_prompt_T1 & ~is_prompt_T
    shift = 0 if how.decoded_at_zero else positions_T + how.decoded_shift
    return Sequence(np.where(is_prompt_T, positions_T, shift), sees_TT, empty_TT)


def _normalised(x_BTD: np.ndarray, scale_D: np.ndarray, how: Mathematics) -> np.ndarray:
    """RMSNorm, Zhang and Sennrich (2019)."""
    mean_BT1 = np.square(x_BTD).mean(-1, keepdims=True)
    normalised: np.ndarray = x_BTD / np.sqrt(mean_BT1 + how.rms_norm_epsilon)
    return normalised * np.asarray(scale_D, np.float64)


def _projected(name: str, x_BTD: np.ndarray, weights: Arrays, how: Mathematics) -> np.ndarray:
    return _product(x_BTD, weights[f"{name}/kernel"], how)


def _product(x: np.ndarray, kernel: np.ndarray, how: Mathematics) -> np.ndarray:
    if how.operand_bits is not None:
        x, kernel = rounded(x, how.operand_bits), rounded(kernel, how.operand_bits)
    return np.asarray(x @ np.asarray(kernel, np.float64))


def _attended(
    query_BTHK: np.ndarray,
    key_BTHK: np.ndarray,
    value_BTHK: np.ndarray,
    sequence: Sequence,
    how: Mathematics,
) -> np.ndarray:
    """The attention output of every position and head, BTHK."""
    query = _rotated(query_BTHK, sequence.rotated_by, how).transpose(0, 2, 1, 3)
    key = _rotated(key_BTHK, sequence.rotated_by, how).transpose(0, 2, 3, 1)
    if how.cache_bits is not None:
        key, value_BTHK = rounded(key, how.cache_bits), rounded(value_BTHK, how.cache_bits)
    scores_BHTT = query @ key / query.shape[-1] ** how.score_power
    scores_BHTT = np.where(sequence.empty, 0, scores_BHTT)
    scores_BHTT = np.where(sequence.sees, scores_BHTT, -np.inf)
    scores_BHTT = np.exp(scores_BHTT - scores_BHTT.max(-1, keepdims=True))
    attention_BHTT = scores_BHTT / scores_BHTT.sum(-1, keepdims=True)
    attention_BHTT = np.where(sequence.empty, 0, attention_BHTT)
    return np.asarray((attention_BHTT @ value_BTHK.swapaxes(1, 2)).swapaxes(1, 2))


def _rotated(x_BTHK: np.ndarray, positions_T: np.ndarray, how: Mathematics) -> np.ndarray:
    """RoPE, Su et al. (2021), equation 34, on the pairs that `how` names."""
    dimension = x_BTHK.shape[-1]
    frequencies_K = how.rotary_base ** (-np.arange(0, dimension, 2) / dimension)
    angles_T1K = positions_T[:, None, None] * frequencies_K
    cos, sin = np.cos(angles_T1K), np.sin(angles_T1K)
    if how.pairs == "half":
        first, second = np.split(x_BTHK, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    if how.pairs == "none":
        return x_BTHK
    first, second = x_BTHK[..., ::2], x_BTHK[..., 1::2]
    turned = first * cos - second * sin, second * cos + first * sin
    return np.stack(turned, -1).reshape(x_BTHK.shape)


def _mlp(name: str, x_BTD: np.ndarray, weights: Arrays, how: Mathematics) -> np.ndarray:
    """SwiGLU, Shazeer (2020)."""
    gate_BTF = _projected(f"{name}/gate", x_BTD, weights, how)
    up_BTF = _projected(f"{name}/up", x_BTD, weights, how)
    if how.is_swapped:
        gate_BTF, up_BTF = up_BTF, gate_BTF
    return _projected(f"{name}/down", gate_BTF / (1 + np.exp(-gate_BTF)) * up_BTF, weights, how)
