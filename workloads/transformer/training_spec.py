"""A causal decoder's fine-tune as mathematics: batches, gradients, FLOP, options, tolerances.

The README beside this file states the mathematics in full. NumPy, the contract and this folder
only.

Shapes: B batch, T positions, D width, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from benchmarks.contract.case import RECIPE, RECIPES, Work
from benchmarks.contract.mistake import OtherConstant, Outcome
from benchmarks.contract.optimizer import AdamW
from benchmarks.contract.program import Arrays
from benchmarks.contract.workload import WorkloadSpec
from workloads.transformer.memory import memory_bytes
from workloads.transformer.network import (
    HYPERPARAMETERS,
    LORA_HYPERPARAMETERS,
    MAX_SEQUENCE_LENGTH,
    SEQUENCE_LENGTHS,
    SIZES,
    attention_projections,
    is_decayed,
    num_adapter_parameters,
    num_multiplying,
    sequence_length,
)
from workloads.transformer.training_reference import suspected_constants, suspected_steps
from workloads.transformer.training_tolerances import TOLERANCES
from workloads.transformer.weights import canonical_weights, generator

OPTIMIZER = AdamW(
    learning_rate=HYPERPARAMETERS["learning_rate"],
    beta1=HYPERPARAMETERS["beta1"],
    beta2=HYPERPARAMETERS["beta2"],
    epsilon=HYPERPARAMETERS["epsilon"],
    weight_decay=HYPERPARAMETERS["weight_decay"],
    decays=is_decayed,
)

TRAJECTORY = {"learning_rate": 1e-5}
"""For the ten steps that are compared."""


def batch(work: Work, index: int) -> dict[str, np.ndarray]:
    """The index-th batch: `tokens` and `labels`, BT int32, uniform over the vocabulary.

    Whole sequences without padding; a label is the token that follows.
    """
    shape = (work.batch_size, sequence_length(work) + 1)
    drawn = generator(work, f"batch{index}")
    tokens = drawn.integers(0, SIZES[work.size]["vocabulary_size"], shape, dtype=np.int32)
    return {
        "tokens": np.ascontiguousarray(tokens[:, :-1]),
        "labels": np.ascontiguousarray(tokens[:, 1:]),
    }


def gradients(initial: Arrays, read: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """The gradient of each trained parameter at step 1: Adam's first moment over 1 - beta1."""
    for name in initial:
        moment = read.get(f"optimizer/{name}")
        if moment is not None:
            yield name, np.asarray(moment, np.float64) / (1 - HYPERPARAMETERS["beta1"])


def attention_flop_per_token(parameters: Mapping[str, int], length: int) -> int:
    """FLOP of scores and weighted sums, forward and backward: 12 L D T, without causal discount.

    Chowdhery et al., "PaLM" (2022), appendix B.
    """
    return 12 * parameters["num_layers"] * parameters["width"] * length


def finetune_flop(work: Work) -> int:
    """FLOP of a full step: (6 N + 12 L D T) for each token."""
    parameters, length = SIZES[work.size], sequence_length(work)
    per_token = 6 * num_multiplying(parameters) + attention_flop_per_token(parameters, length)
    return work.batch_size * length * per_token


def lora_flop(work: Work) -> int:
    """FLOP of a LoRA step: (4 N + 6 A + 12 L D T) for each token, minus gradients nothing needs.

    A frozen kernel needs no gradient. In the first layer query, key and value and their adapters
    need no input gradient, because the embedding is frozen.
    """
    parameters, length = SIZES[work.size], sequence_length(work)
    rank = int(LORA_HYPERPARAMETERS["lora_rank"])
    first = attention_projections(parameters, 0)[:3]
    unneeded = sum(2 * one.num_weights + 2 * one.num_inputs * rank for one in first)
    per_token = (
        4 * num_multiplying(parameters)
        + 6 * num_adapter_parameters(parameters)
        + attention_flop_per_token(parameters, length)
        - unneeded
    )
    return work.batch_size * length * per_token


MAX_SUSPECTED_FLOP = 5e10
"""No mistake is computed if a step takes more FLOP: a step in NumPy would take seconds."""


def known_mistakes(work: Work, initial: Arrays, first: Arrays) -> Iterator[tuple[str, Outcome]]:
    """Descriptions of known mistakes of the forward pass, each with its step 1."""
    if finetune_flop(work) <= MAX_SUSPECTED_FLOP:
        yield from suspected_steps(SIZES[work.size], LORA_HYPERPARAMETERS, initial, first)


def other_constants(work: Work, initial: Arrays, first: Arrays) -> Iterator[OtherConstant]:
    """Constants of the forward pass that may have another value."""
    if finetune_flop(work) <= MAX_SUSPECTED_FLOP:
        yield from suspected_constants(SIZES[work.size], LORA_HYPERPARAMETERS, initial, first)


ATTENTION_CONVENTION = "12 L D T of attention, no causal discount, no recompute"


def _spec(name: str, *, lora: bool) -> WorkloadSpec:
    convention = "6 N for each token"
    if lora:
        convention = "4 N for each token, 6 for each parameter of an adapter"
    return WorkloadSpec(
        name=name,
        version=1,
        unit="token",
        sizes=SIZES,
        default_batch_size={"tiny": 4, "small": 8, "slice": 1, "124m": 4, "1b": 1, "7b": 1},
        precisions=("fp32", "tf32", "bf16", "bf16_pure", "fp64"),
        hyperparameters=LORA_HYPERPARAMETERS if lora else HYPERPARAMETERS,
        weights=partial(canonical_weights, lora=lora),
        batch=batch,
        items_per_step=lambda work: work.batch_size * sequence_length(work),
        flop_per_step=lora_flop if lora else finetune_flop,
        flop_convention=(f"{convention} and {ATTENTION_CONVENTION}; N without the embedding table"),
        memory_bytes=partial(memory_bytes, lora=lora),
        gradients=gradients,
        optimizer=OPTIMIZER,
        tolerances=TOLERANCES,
        options={"sequence_length": range(2, MAX_SEQUENCE_LENGTH + 1)},
        size_options={size: {"sequence_length": n} for size, n in SEQUENCE_LENGTHS.items()},
        way_options={"recompute": ("none", "full"), RECIPE: RECIPES},
        trajectory=TRAJECTORY,
        proxies=("small", "slice"),
        stable_gradients=("head/kernel",),
        known_mistakes=known_mistakes,
        other_constants=other_constants,
    )


SPECS = {
    "transformer_finetune": _spec("transformer_finetune", lora=False),
    "transformer_lora": _spec("transformer_lora", lora=True),
}
