"""A causal decoder as mathematics: layers, canonical weights and batches, FLOP, memory.

Source of the network: Touvron et al., "Llama 2" (2023), section 2.2, in the dimensions of its 7B
model and smaller ones. The README beside this file states the mathematics in full. NumPy, the
contract and this folder only.

Shapes: B batch, T positions, D width, F width of the MLP, V vocabulary, R rank of an adapter,
I inputs and O outputs of a projection. Kernels are IO.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.contract.case import Case, Work
from benchmarks.contract.program import Arrays
from benchmarks.contract.workload import WorkloadSpec
from workloads.transformer.training_reference import suspected_losses
from workloads.transformer.training_tolerances import TOLERANCES

SIZES: Mapping[str, Mapping[str, int]] = {
    "tiny": {
        "num_layers": 2,
        "width": 64,
        "num_heads": 4,
        "mlp_width": 176,
        "vocabulary_size": 256,
    },
    "small": {
        "num_layers": 4,
        "width": 256,
        "num_heads": 4,
        "mlp_width": 688,
        "vocabulary_size": 8192,
    },
    "slice": {
        "num_layers": 2,
        "width": 1024,
        "num_heads": 8,
        "mlp_width": 2752,
        "vocabulary_size": 4096,
    },
    "124m": {
        "num_layers": 12,
        "width": 768,
        "num_heads": 12,
        "mlp_width": 2048,
        "vocabulary_size": 25600,
    },
    "1b": {
        "num_layers": 18,
        "width": 2048,
        "num_heads": 16,
        "mlp_width": 5632,
        "vocabulary_size": 32000,
    },
    "7b": {
        "num_layers": 32,
        "width": 4096,
        "num_heads": 32,
        "mlp_width": 11008,
        "vocabulary_size": 32000,
    },
}
"""`7b` is Llama-2-7B. `slice` has its head dimension of 128 and a long sequence: with `small` it
proves what is too large for an oracle."""

SEQUENCE_LENGTHS = {"tiny": 32, "small": 128, "slice": 512, "124m": 1024, "1b": 2048, "7b": 2048}
"""Positions of one sequence where nothing is asked for."""
MAX_SEQUENCE_LENGTH = 2**20

HYPERPARAMETERS = {
    "learning_rate": 1e-3,
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 1e-5,
    "weight_decay": 0.1,
    "rms_norm_epsilon": 1e-5,
    "rotary_base": 10000.0,
}
"""AdamW as Llama 2 was trained with it, but for the schedule: the rate is constant, and so large
that bf16 weights (`bf16_pure`) can take a step at all."""

LORA_HYPERPARAMETERS = {**HYPERPARAMETERS, "lora_rank": 16.0, "lora_alpha": 32.0}
"""Hu et al. (2021), section 4.1: the adapter adds alpha / rank * (x A) B."""

TRAJECTORY = {"learning_rate": 1e-5}
"""For the ten steps that are followed."""

EMBEDDING_SPREAD = 0.02
"""Standard deviation of the embedding: so small that the first normalisation's epsilon shows."""
NORM_MEAN, NORM_SPREAD = 0.5, 0.2
"""Of the normalisations' scales, which in a trained Llama are below 1 as well: not all the same, so
that one that is dropped shows, and some so small that a step changes them in bf16."""
ADAPTER_SPREAD = 0.5
"""Spread of an adapter's B over that of a kernel of its shape: it is not 0, as at the beginning of
a fine-tune, because then A would have no gradient."""


@dataclass(frozen=True)
class Projection:
    """One matrix of a layer, without bias: the kernel is `<name>/kernel`, IO."""

    name: str
    num_inputs: int
    num_outputs: int

    @property
    def num_weights(self) -> int:
        """Elements of the kernel."""
        return self.num_inputs * self.num_outputs

    def num_adapter_weights(self, rank: int) -> int:
        """Elements of the adapter's two matrices, `<name>/lora_a` IR and `<name>/lora_b` RO."""
        return (self.num_inputs + self.num_outputs) * rank


def attention_projections(parameters: Mapping[str, int], layer: int) -> tuple[Projection, ...]:
    """Query, key, value and output of one layer."""
    width, prefix = parameters["width"], f"layer{layer}/attention"
    return tuple(
        Projection(f"{prefix}/{part}", width, width) for part in ("query", "key", "value", "output")
    )


def mlp_projections(parameters: Mapping[str, int], layer: int) -> tuple[Projection, ...]:
    """Gate, up and down of one layer."""
    width, mlp_width, prefix = parameters["width"], parameters["mlp_width"], f"layer{layer}/mlp"
    return (
        Projection(f"{prefix}/gate", width, mlp_width),
        Projection(f"{prefix}/up", width, mlp_width),
        Projection(f"{prefix}/down", mlp_width, width),
    )


def projections(parameters: Mapping[str, int]) -> Iterator[Projection]:
    """Every projection of every layer, in the order of the forward pass; the head is none."""
    for layer in range(parameters["num_layers"]):
        yield from attention_projections(parameters, layer)
        yield from mlp_projections(parameters, layer)


def head(parameters: Mapping[str, int]) -> Projection:
    """The projection to the vocabulary."""
    return Projection("head", parameters["width"], parameters["vocabulary_size"])


def is_decayed(name: str) -> bool:
    """Whether weight decay applies: to every matrix, never to a normalisation's scale."""
    return not name.endswith("/scale")


def is_adapter(name: str) -> bool:
    """Whether this is a matrix of an adapter: in LoRA the only ones that are trained."""
    return name.endswith(("/lora_a", "/lora_b"))


def sequence_length(work: Work) -> int:
    """Positions of each sequence of this work."""
    return int(dict(work.options)["sequence_length"])


def weights(work: Work, *, lora: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Canonical initial weights, float32, each one exact in bfloat16, in the forward's order.

    Kernels are N(0, 1 / fan_in), so that every layer's output is about as large as its input and
    attention is far from uniform. What bf16 cannot hold is rounded away: a base that is frozen in
    bf16 is then the same numbers as in any other precision, and a step begins at the same place.
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
    values = _generator(work, name).standard_normal(shape, dtype=np.float32)
    values *= np.float32(spread)
    values += np.float32(mean)
    return name, _rounded_to_bf16(values)


def _rounded_to_bf16(values: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 of each value, halves to even, in place and as float32."""
    bits = values.view(np.uint32)
    bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    bits &= np.uint32(0xFFFF0000)
    return values


def _generator(work: Work, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([work.seed, zlib.crc32(name.encode())]))


def batch(work: Work, index: int) -> dict[str, np.ndarray]:
    """The index-th batch: `tokens` and `labels`, BT int32, uniform over the vocabulary.

    Whole sequences without padding; a label is the token that follows.
    """
    shape = (work.batch_size, sequence_length(work) + 1)
    generator = _generator(work, f"batch{index}")
    tokens = generator.integers(0, SIZES[work.size]["vocabulary_size"], shape, dtype=np.int32)
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


def num_parameters(parameters: Mapping[str, int]) -> int:
    """All parameters without adapters: 6,738,415,616 for `7b`."""
    tables = 2 * parameters["vocabulary_size"] * parameters["width"]
    scales = (2 * parameters["num_layers"] + 1) * parameters["width"]
    return tables + scales + sum(one.num_weights for one in projections(parameters))


def num_adapter_parameters(parameters: Mapping[str, int]) -> int:
    """Parameters of all adapters."""
    rank = int(LORA_HYPERPARAMETERS["lora_rank"])
    return sum(one.num_adapter_weights(rank) for one in projections(parameters))


def num_multiplying(parameters: Mapping[str, int]) -> int:
    """Parameters that are multiplied with: every projection and the head, not the embedding."""
    return head(parameters).num_weights + sum(one.num_weights for one in projections(parameters))


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
    """FLOP of a LoRA step: (4 N + 6 A + 12 L D T) for each token, less what nothing needs.

    A frozen kernel has no gradient of its own. In the first layer neither query, key and value nor
    their adapters pass one on: the embedding is frozen.
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


BYTES_PER_VALUE = {"bf16": 2, "bf16_pure": 2, "fp64": 8}
"""Of activations and frozen weights; 4 in the other precisions."""
STATE_BYTES = {"bf16_pure": 8, "fp64": 32}
"""Of one trained parameter: weight, gradient and two moments; 16 where these are in fp32."""
COPY_BYTES = {"bf16": 2}
"""Of the copy of a trained parameter that products take."""
WIDENED_BYTES = 4
"""Of what products take besides on a CPU that multiplies rounded bf16 operands in fp32."""
FOOTPRINT_BYTES = 2**30
"""Of the framework itself."""
TORCH_FUSED_ATTENTION = {
    "cpu": ("fp32", "bf16", "bf16_pure", "fp64"),
    "cuda": ("fp32", "tf32", "bf16", "bf16_pure"),
}
CUDNN_ATTENTION = {"cuda": ("bf16", "bf16_pure")}
FUSED_ATTENTION: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "pytorch": TORCH_FUSED_ATTENTION,
    "keras_torch": TORCH_FUSED_ATTENTION,
    "jax": CUDNN_ATTENTION,
    "keras_jax": CUDNN_ATTENTION,
}
"""For each framework the devices and precisions where a trained attention keeps no matrix of its
weights. On Metal PyTorch's does."""


def memory_bytes(case: Case, *, lora: bool) -> int:
    """An upper estimate for one launch: states, activations and the framework's own footprint."""
    work, precision = case.work, case.way.precision
    parameters = SIZES[work.size]
    widened = WIDENED_BYTES * (case.place.device == "cpu" and precision.startswith("bf16"))
    state_bytes = STATE_BYTES.get(precision, 16) + COPY_BYTES.get(precision, 0) + widened
    if lora:
        trained, frozen = num_adapter_parameters(parameters), num_parameters(parameters)
    else:
        trained, frozen = num_parameters(parameters), 0
    value_bytes = BYTES_PER_VALUE.get(precision, 4) + widened
    num_tokens = work.batch_size * sequence_length(work)
    return (
        trained * state_bytes
        + frozen * value_bytes
        + num_tokens * _activation_bytes_per_token(case, value_bytes)
        + FOOTPRINT_BYTES
    )


def _activation_bytes_per_token(case: Case, value_bytes: int) -> int:
    """What the backward pass needs of the forward pass, and the logits.

    Of a layer: 12 vectors of the width, 5 of the MLP's, and the matrix of attention weights, as the
    softmax returns it and as the product takes it, where no fused kernel does without. Of the
    logits: themselves, their softmax and its gradient.
    """
    parameters, precision = SIZES[case.work.size], case.way.precision
    wide_bytes = 8 if precision == "fp64" else 4
    vectors = 12 * parameters["width"] + 5 * parameters["mlp_width"]
    layer_bytes = vectors * value_bytes
    if not _has_fused_attention(case):
        weight_bytes = wide_bytes + 2 * precision.startswith("bf16")
        layer_bytes += parameters["num_heads"] * sequence_length(case.work) * weight_bytes
    num_layers = parameters["num_layers"]
    if dict(case.way.options).get("recompute") == "full":
        kept_bytes = num_layers * parameters["width"] * value_bytes + layer_bytes
    else:
        kept_bytes = num_layers * layer_bytes
    return kept_bytes + 3 * wide_bytes * parameters["vocabulary_size"]


def _has_fused_attention(case: Case) -> bool:
    fused = FUSED_ATTENTION.get(case.way.framework, {})
    return case.way.precision in fused.get(case.place.device, ())


def known_mistakes(work: Work, initial: Arrays, first: Arrays) -> Iterator[tuple[str, float]]:
    """Known mistakes of the forward pass, each with the loss that it leads to."""
    return suspected_losses(SIZES[work.size], LORA_HYPERPARAMETERS, initial, first)


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
        weights=partial(weights, lora=lora),
        batch=batch,
        items_per_step=lambda work: work.batch_size * sequence_length(work),
        flop_per_step=lora_flop if lora else finetune_flop,
        flop_convention=(f"{convention} and {ATTENTION_CONVENTION}; N without the embedding table"),
        memory_bytes=partial(memory_bytes, lora=lora),
        gradients=gradients,
        tolerances=TOLERANCES,
        options={"sequence_length": range(2, MAX_SEQUENCE_LENGTH + 1)},
        size_options={size: {"sequence_length": n} for size, n in SEQUENCE_LENGTHS.items()},
        way_options={"recompute": ("none", "full")},
        trajectory=TRAJECTORY,
        proxies=("small", "slice"),
        stable_gradients=("head/kernel",),
        known_mistakes=known_mistakes,
    )


SPECS = {
    "transformer_finetune": _spec("transformer_finetune", lora=False),
    "transformer_lora": _spec("transformer_lora", lora=True),
}
