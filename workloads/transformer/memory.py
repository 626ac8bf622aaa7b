"""The decoder's memory: bytes of its values, and an upper estimate for training.

`inference_spec` has the estimate for inference.

The contract and this folder only.
"""

from __future__ import annotations

from benchmarks.contract.case import Case
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.precision import PRECISIONS
from workloads.transformer.network import (
    SIZES,
    num_adapter_parameters,
    num_parameters,
    sequence_length,
)

STATE_BYTES = {"bf16_pure": 8, "fp64": 32}
"""Bytes per trained parameter: weight, gradient and two moments; 16 if these are in fp32."""
COPY_BYTES = {"bf16": 2}
"""Bytes per trained parameter for the copy that matmuls take."""
WIDENED_BYTES = 4
"""Bytes per operand of a matmul for its fp32 copy, on a CPU that multiplies bf16 in fp32."""
FOOTPRINT_BYTES = 2**30
"""Memory of the framework itself."""


def value_bytes(case: Case) -> int:
    """Bytes of an activation, a frozen weight or a cached value, with its fp32 copy if any."""
    return PRECISIONS[case.way.precision].num_bytes + _widened_bytes(case)


def has_fused_attention(case: Case, capabilities: Capabilities) -> bool:
    """Whether the case's attention is fused and stores no matrix of attention weights."""
    return case.way.precision in capabilities.fused_attention.get(case.place.device, ())


def memory_bytes(case: Case, capabilities: Capabilities, *, lora: bool) -> int:
    """An upper estimate for one launch: states, activations and the framework's own footprint."""
    work, precision = case.work, case.way.precision
    parameters = SIZES[work.size]
    state_bytes = STATE_BYTES.get(precision, 16) + COPY_BYTES.get(precision, 0)
    state_bytes += _widened_bytes(case)
    if lora:
        trained, frozen = num_adapter_parameters(parameters), num_parameters(parameters)
    else:
        trained, frozen = num_parameters(parameters), 0
    num_tokens = work.batch_size * sequence_length(work)
    return (
        trained * state_bytes
        + frozen * value_bytes(case)
        + num_tokens * _activation_bytes_per_token(case, capabilities)
        + FOOTPRINT_BYTES
    )


def _activation_bytes_per_token(case: Case, capabilities: Capabilities) -> int:
    """Bytes of the activations that the backward pass needs, and of the logits.

    Each layer: 12 vectors of width D, 5 of the MLP's width, and without a fused kernel the matrix
    of attention weights, as the softmax's output and as the matmul's operand. The logits: the
    logits themselves, their softmax and its gradient.
    """
    parameters, precision = SIZES[case.work.size], case.way.precision
    wide_bytes = 8 if precision == "fp64" else 4
    vectors = 12 * parameters["width"] + 5 * parameters["mlp_width"]
    layer_bytes = vectors * value_bytes(case)
    if not has_fused_attention(case, capabilities):
        weight_bytes = wide_bytes + 2 * precision.startswith("bf16")
        layer_bytes += parameters["num_heads"] * sequence_length(case.work) * weight_bytes
    num_layers = parameters["num_layers"]
    if dict(case.way.options).get("recompute") == "full":
        kept_bytes = num_layers * parameters["width"] * value_bytes(case) + layer_bytes
    else:
        kept_bytes = num_layers * layer_bytes
    return kept_bytes + 3 * wide_bytes * parameters["vocabulary_size"]


def _widened_bytes(case: Case) -> int:
    return WIDENED_BYTES * (case.place.device == "cpu" and case.way.precision.startswith("bf16"))
