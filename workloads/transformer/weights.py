"""The decoder's canonical initial weights for training and inference, drawn by NumPy.

NumPy, the contract and this folder only.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.contract.case import Work
from workloads.transformer.network import (
    LORA_HYPERPARAMETERS,
    SIZES,
    Projection,
    attention_projections,
    head,
    mlp_projections,
)

EMBEDDING_SPREAD = 0.02
"""Standard deviation of the embedding: small, so that a wrong epsilon in the first normalisation
changes the loss."""
NORM_MEAN, NORM_SPREAD = 0.5, 0.2
"""Mean and spread of the normalisations' scales, which are below 1 in a trained Llama too. They
differ, so that a dropped scale is detected; some are so small that a step changes them in bf16."""
ADAPTER_SPREAD = 0.5
"""Spread of an adapter's B, relative to a kernel of its shape. A fine-tune usually begins with B at
0; here it is not 0, because A would have no gradient."""


def canonical_weights(work: Work, *, lora: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Canonical initial weights, float32, each one exact in bfloat16, in the forward's order.

    Kernels are N(0, 1 / fan_in), so that every layer's output is about as large as its input and
    attention is far from uniform. Values are rounded to bf16, so that weights frozen in bf16 equal
    those of every other precision, and every precision begins from the same weights.
    """
    parameters = SIZES[work.size]
    width, vocabulary_size = parameters["width"], parameters["vocabulary_size"]
    draw = partial(_normal, work)
    yield draw("embedding/table", (vocabulary_size, width), spread=EMBEDDING_SPREAD)
    for layer in range(parameters["num_layers"]):
        for norm, group in (
            ("attention_norm", attention_projections(parameters, layer)),
            ("mlp_norm", mlp_projections(parameters, layer)),
        ):
            yield draw(f"layer{layer}/{norm}/scale", (width,), spread=NORM_SPREAD, mean=NORM_MEAN)
            for one in group:
                yield from _projection_weights(draw, one, lora=lora)
    yield draw("final_norm/scale", (width,), spread=NORM_SPREAD, mean=NORM_MEAN)
    yield from _projection_weights(draw, head(parameters), lora=False)


def _projection_weights(
    draw: partial[tuple[str, np.ndarray]], one: Projection, *, lora: bool
) -> Iterator[tuple[str, np.ndarray]]:
    num_inputs, num_outputs = one.num_inputs, one.num_outputs
    spread = 1 / math.sqrt(num_inputs)
    yield draw(f"{one.name}/kernel", (num_inputs, num_outputs), spread=spread)
    if lora:
        rank = int(LORA_HYPERPARAMETERS["lora_rank"])
        yield draw(f"{one.name}/lora_a", (num_inputs, rank), spread=spread)
        spread = ADAPTER_SPREAD / math.sqrt(rank)
        yield draw(f"{one.name}/lora_b", (rank, num_outputs), spread=spread)


def _normal(
    work: Work, name: str, shape: tuple[int, ...], *, spread: float, mean: float = 0.0
) -> tuple[str, np.ndarray]:
    values = generator(work, name).standard_normal(shape, dtype=np.float32)
    values *= np.float32(spread)
    values += np.float32(mean)
    return name, _rounded_to_bf16(values)


def _rounded_to_bf16(values: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 of each value, halves to even, in place and as float32."""
    bits = values.view(np.uint32)
    bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    bits &= np.uint32(0xFFFF0000)
    return values


def generator(work: Work, name: str) -> np.random.Generator:
    """The random generator of the array of this name, independent of the order of drawing."""
    return np.random.Generator(np.random.PCG64([work.seed, zlib.crc32(name.encode())]))
