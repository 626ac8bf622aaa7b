"""A causal decoder's inference, as mathematics: prompts, FLOP, memory, tolerances.

The network has no adapters. The README beside this file defines a request. NumPy, the contract and
the workloads only.

Shapes: B batch, P positions of the prompt, N new tokens, D width, V vocabulary, R requests of a
batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.contract.case import RECIPE, RECIPES, Case, Work
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.mistake import OtherConstant
from benchmarks.contract.precision import PRECISIONS
from benchmarks.contract.program import Arrays
from benchmarks.contract.task import NUM_REQUESTS, Inference, Tolerance
from benchmarks.contract.workload import WorkloadSpec
from workloads.transformer import inference_reference as reference
from workloads.transformer import network
from workloads.transformer.memory import (
    FOOTPRINT_BYTES,
    has_fused_attention,
    value_bytes,
)
from workloads.transformer.network import SIZES
from workloads.transformer.weights import canonical_weights, generator

HYPERPARAMETERS = {
    name: network.HYPERPARAMETERS[name] for name in ("rms_norm_epsilon", "rotary_base")
}
RIGHT = reference.Mathematics(
    rms_norm_epsilon=HYPERPARAMETERS["rms_norm_epsilon"],
    rotary_base=HYPERPARAMETERS["rotary_base"],
)
PROMPT_LENGTHS = {"tiny": 16, "small": 128, "slice": 256, "124m": 512, "1b": 512, "7b": 512}
"""Default number of tokens of a prompt."""
NUM_NEW_TOKENS = {"tiny": 8, "small": 32, "slice": 32, "124m": 32, "1b": 32, "7b": 32}
"""Tokens that are decoded after each prompt."""
MAX_PROMPT_LENGTH = 2**20


def is_decode(work: Work) -> bool:
    """Whether a request is one more token for each sequence; else it is a whole prompt."""
    return dict(work.options)["phase"] == "decode"


def prompt_length(work: Work) -> int:
    """Tokens of each prompt."""
    return int(dict(work.options)["prompt_length"])


def num_new_tokens(work: Work) -> int:
    """Tokens that follow each prompt in decode; in prefill the cache has room for them."""
    return NUM_NEW_TOKENS[work.size]


def cache_length(work: Work) -> int:
    """Positions that a KV cache has room for."""
    return prompt_length(work) + num_new_tokens(work)


def per_batch(work: Work) -> int:
    """Requests of a batch: one for each new token in decode, one for the prompt in prefill."""
    return num_new_tokens(work) if is_decode(work) else 1


def batch(work: Work, index: int) -> dict[str, np.ndarray]:
    """The index-th batch: `tokens`, BP int32, uniform over the vocabulary.

    In decode, withheld batches also have `forced`, BN int32: the input tokens from position P on,
    in place of the program's own output, so that the oracle can compute the logits after them.
    """
    num_prompt, shape = prompt_length(work), (work.batch_size, cache_length(work))
    drawn = generator(work, f"batch{index}")
    tokens = drawn.integers(0, SIZES[work.size]["vocabulary_size"], shape, dtype=np.int32)
    found = {"tokens": np.ascontiguousarray(tokens[:, :num_prompt])}
    if is_decode(work) and index >= NUM_REQUESTS:
        found["forced"] = np.ascontiguousarray(tokens[:, num_prompt:])
    return found


def flop_per_step(work: Work) -> int:
    """FLOP of the matmuls of one request, without causal discount.

    A prompt: for each token 2 for each parameter of the layers' kernels and 4 L D P for attention,
    and for each sequence 2 for each parameter of the head. A new token: 2 for each parameter of
    kernels and head, and 4 L D (P + N) for attention, as if it were the last token.
    """
    return flop_per_token(work) if is_decode(work) else flop_per_prompt(work)


def flop_per_token(work: Work) -> int:
    """FLOP of one more token for each sequence, as if it were the last."""
    parameters = SIZES[work.size]
    attention = 4 * parameters["num_layers"] * parameters["width"] * cache_length(work)
    return work.batch_size * (2 * network.num_multiplying(parameters) + attention)


def flop_per_prompt(work: Work) -> int:
    """FLOP of a batch's prompts, including one output token for each."""
    parameters, num_prompt = SIZES[work.size], prompt_length(work)
    head = 2 * network.head(parameters).num_weights
    kernels = 2 * network.num_multiplying(parameters) - head
    attention = 4 * parameters["num_layers"] * parameters["width"] * num_prompt
    return work.batch_size * (num_prompt * (kernels + attention) + head)


def num_weight_bytes(case: Case) -> int:
    """Bytes of all weights in the case's precision."""
    num_weights = network.num_parameters(SIZES[case.work.size])
    return num_weights * PRECISIONS[case.way.precision].num_bytes


def memory_bytes(case: Case, capabilities: Capabilities) -> int:
    """An upper estimate for one launch: weights, cache, a layer's activations, the framework.

    A prompt's activations are, for each token, 12 vectors of width D and 3 of the MLP's width, and
    two matrices of attention weights if no fused kernel avoids them. A CPU also holds a packed copy
    of the weights.
    """
    work, parameters = case.work, SIZES[case.work.size]
    num_cached = 2 * parameters["num_layers"] * parameters["width"] * cache_length(work)
    per_token = 12 * parameters["width"] + 3 * parameters["mlp_width"]
    if not has_fused_attention(case, capabilities):
        per_token += 2 * parameters["num_heads"] * prompt_length(work)
    values = num_cached + prompt_length(work) * per_token + 2 * parameters["vocabulary_size"]
    num_copies = 2 if case.place.device == "cpu" else 1
    num_weights = num_copies * network.num_parameters(parameters)
    return (num_weights + work.batch_size * values) * value_bytes(case) + FOOTPRINT_BYTES


def answer_error(answer: np.ndarray, read: Arrays) -> float:
    """How far the logits of these tokens are below the largest, in units of their row's rms.

    0 if each token is an argmax (any of several equal ones); infinite if they are not valid tokens.
    """
    logits = np.asarray(read["logits"], np.float64)
    is_token = answer.shape == logits.shape[:1] and np.issubdtype(answer.dtype, np.integer)
    if not is_token or answer.min() < 0 or answer.max() >= logits.shape[1]:
        return math.inf
    below = logits.max(-1) - logits[np.arange(len(answer)), answer]
    return float((below / np.sqrt(np.square(logits).mean(-1))).max())


MAX_SUSPECTED_FLOP = 5e10
"""No mistake is computed if a batch takes more FLOP: a batch in NumPy would take seconds."""


def known_mistakes(work: Work, weights: Arrays, one: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """Descriptions of known mistakes, each with the logits RBV that it leads to."""
    if flop_per_prompt(work) <= MAX_SUSPECTED_FLOP:
        yield from reference.suspected_logits(SIZES[work.size], RIGHT, weights, one)


def other_constants(work: Work, weights: Arrays, one: Arrays) -> Iterator[OtherConstant]:
    """Constants that may have another value."""
    if flop_per_prompt(work) <= MAX_SUSPECTED_FLOP:
        yield from reference.suspected_constants(SIZES[work.size], RIGHT, weights, one)


def recompute(work: Work, weights: Arrays, one: Arrays) -> np.ndarray:
    """The logits of a batch's requests, from whole sequences without a cache, RBV float64."""
    return reference.logits(SIZES[work.size], RIGHT, weights, one)


def free_running(
    work: Work,
    weights: Arrays,
    one: Arrays,
    answers: np.ndarray,
    logits: np.ndarray,
    tolerance: Tolerance,
) -> np.ndarray:
    """The logits RBV float64 of free-running decode with these answers RB, without a cache."""
    own = reference.OwnAnswers(answers, logits)
    return reference.continued_logits(SIZES[work.size], RIGHT, weights, one, own, tolerance)


def handed_out(
    work: Work, weights: Arrays, one: Arrays, answers: np.ndarray, tolerance: Tolerance
) -> np.ndarray:
    """The logits RBV float64 that these answers RB of free-running decode should follow from."""
    parameters = SIZES[work.size]
    return reference.handed_out_logits(parameters, RIGHT, weights, one, answers, tolerance)


TOLERANCES = {
    # One tolerance for each check of equivalence.answers. `timed` is a token's gap to the largest
    # logit, ten times `logits_worst`: errors of a few deviations in two logits may swap them.
    # `loss` is for work whose oracle cannot be computed.
    #
    # PyTorch, JAX and MLX agree with the oracle to 1.6e-15 (tiny and small).
    "fp64": {"logits": 1e-10, "logits_worst": 1e-10, "timed": 1e-9, "loss": 1e-10},
    # Four times the worst error of 88 proofs of PyTorch, JAX and MLX: tiny with batches of 1 and 4,
    # seeds 0 to 4; small and slice with seed 0, not in MLX. The error grows with the width and is
    # similar in all of them. The loss: from 88 batches in PyTorch.
    "fp32": {
        "logits": 5.7e-6,  # worst 1.4e-6, at slice
        "logits_worst": 6.8e-6,  # 1.7e-6
        "timed": 6.8e-5,
        "loss": 4.4e-7,  # 1.1e-7
    },
    # The same 88 proofs, all within 8.4e-3. Twice the worst error, because a decode position that
    # is off by one has an error of 3.0e-2 at small.
    "bf16": {
        "logits": 1.7e-2,  # worst 8.4e-3, against the logits without a cache
        "logits_worst": 5.2e-2,  # 1.3e-2
        "timed": 0.52,
        "loss": 5.2e-3,  # 1.3e-3
    },
    # Four times the worst error of 22 runs of JAX on a CPU with every matmul's operands rounded to
    # TF32, also in attention: as in fp32, without slice. The loss: as in fp32, in PyTorch.
    "tf32": {
        "logits": 2.6e-3,  # worst 6.5e-4
        "logits_worst": 4.4e-3,  # 1.1e-3
        "timed": 4.4e-2,
        "loss": 3.7e-4,  # 9.2e-5
    },
}

SPECS = {
    "transformer_infer": WorkloadSpec(
        name="transformer_infer",
        version=1,
        unit="token",
        sizes=SIZES,
        default_batch_size=dict.fromkeys(SIZES, 1),
        precisions=("fp32", "tf32", "bf16", "fp64"),
        hyperparameters=HYPERPARAMETERS,
        weights=partial(canonical_weights, lora=False),
        batch=batch,
        items_per_step=lambda work: (
            work.batch_size * (1 if is_decode(work) else prompt_length(work))
        ),
        flop_per_step=flop_per_step,
        flop_convention=(
            "2 for each parameter of the layers' kernels and 4 L D S of attention per token, no"
            " causal discount, S the prompt or the whole cache; 2 for each of the head's parameters"
            " per output token"
        ),
        memory_bytes=memory_bytes,
        tolerances=TOLERANCES,
        options={
            "phase": ("decode", "prefill"),
            "prompt_length": range(1, MAX_PROMPT_LENGTH + 1),
        },
        size_options={size: {"prompt_length": n} for size, n in PROMPT_LENGTHS.items()},
        way_options={RECIPE: RECIPES},
        every_value_of=("phase",),
        proxies=("small", "slice"),
        task=Inference(
            per_batch=per_batch,
            answer_error=answer_error,
            known_mistakes=known_mistakes,
            other_constants=other_constants,
            recompute=recompute,
            free_running=free_running,
            handed_out=handed_out,
            num_weight_bytes=num_weight_bytes,
            flop_before=lambda work: flop_per_prompt(work) if is_decode(work) else 0,
        ),
    ),
}
