"""The decoder's dimensions: sizes, projections, sequence lengths, parameter counts.

Source of the network: Touvron et al., "Llama 2" (2023), section 2.2, in the dimensions of its 7B
model and smaller ones. The README beside this file states the mathematics in full. Standard library
and the contract only.

Kernels are IO: inputs and outputs of a projection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.contract.case import Work

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
"""`7b` is Llama-2-7B. `slice` has its head dimension of 128 and a long sequence: it and `small`
prove sizes that are too large for an oracle."""

SEQUENCE_LENGTHS = {"tiny": 32, "small": 128, "slice": 512, "124m": 1024, "1b": 2048, "7b": 2048}
"""Default number of positions of a sequence."""
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
"""AdamW with Llama 2's constants, except for the schedule: the rate is constant, and large enough
to change bf16 weights (`bf16_pure`)."""

LORA_HYPERPARAMETERS = {**HYPERPARAMETERS, "lora_rank": 16.0, "lora_alpha": 32.0}
"""Hu et al. (2021), section 4.1: the adapter adds alpha / rank * (x A) B."""


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


class LayerProjections(NamedTuple):
    """The projections of one layer, grouped by input: the kernels of a group can be one array."""

    query_key_value: tuple[Projection, ...]
    output: tuple[Projection, ...]
    gate_up: tuple[Projection, ...]
    down: tuple[Projection, ...]


def layer_projections(parameters: Mapping[str, int], layer: int) -> LayerProjections:
    """The projections of one layer by their input, in the order of the forward pass."""
    *inputs, output = attention_projections(parameters, layer)
    *gate_up, down = mlp_projections(parameters, layer)
    return LayerProjections(tuple(inputs), (output,), tuple(gate_up), (down,))


def projections(parameters: Mapping[str, int]) -> Iterator[Projection]:
    """Every projection of every layer, in the order of the forward pass; without the head."""
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
    """Whether this is a matrix of an adapter; LoRA trains only these."""
    return name.endswith(("/lora_a", "/lora_b"))


def sequence_length(work: Work) -> int:
    """Positions of each sequence of this work."""
    return int(dict(work.options)["sequence_length"])


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
    """Parameters that take part in matmuls: every projection and the head, not the embedding."""
    return head(parameters).num_weights + sum(one.num_weights for one in projections(parameters))
