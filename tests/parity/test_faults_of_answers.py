"""Mistakes planted into programs that answer requests: each is caught, and named in the output."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from tests.parity.faults import Fault, parameters

NAMED = {
    "epsilon": "epsilon of batch normalisation: 0.001 in place of 1e-05",
    "smaller_epsilon": "epsilon of batch normalisation: 1e-06 in place of 1e-05",
    "images_in_steps": "the images are rounded to multiples of 1/32",
    "images_scaled": "scale of the images: 1.001 in place of 1",
    "weights_in_fp16": "the weights are rounded to float16",
    "softmaxed": "the answers are probabilities (softmax), not logits",
    "last_class_dropped": "the last class is dropped: its logit is always 0",
    "v1_strides": "the stride of a block is in its first 1x1 convolution (v1)",
    "same_padding": "SAME pads a strided window on one side",
    "reversed_channels": "the images' channels are reversed",
    "unloaded_statistics": "the running statistics are not loaded",
    "constant_request": "the input does not matter",
    "request_twice": "some requests have the answer to an earlier one",
    "stale_answer": "the returned token or logits are not those of this request",
}
"""What the output says of each fault of PyTorch's and JAX's programs."""
STATISTICS_OF_THE_BATCH = "batch normalisation in training mode"
WITHOUT_WEIGHTS = "variables that were not frozen into it"
OF_INTEGERS = {
    "unquantised": "share of the convolutions and matmuls that are not in integers",
    "untold": "do not report their convolution dtype",
}
"""What the output says of a model in int8 whose products are not seen to be of integers."""


def planted(framework: str, precisions: Iterable[str], names: Iterable[str]) -> list[Any]:
    """The parameters of these faults; what PyTorch's fp32 repeats is slow."""
    return parameters(
        itertools.starmap(
            Fault, itertools.product(["resnet50_infer"], [framework], precisions, names)
        ),
        slow=lambda fault: fault.framework == "pytorch" and fault.precision == "fp32",
    )


@pytest.mark.parametrize(
    "fault",
    [
        *planted("pytorch", ["fp64", "fp32"], NAMED),
        *planted("jax", ["fp64", "fp32"], NAMED),
    ],
)
def test_a_planted_fault_is_caught_and_named(fault, verdicts):
    verdict = verdicts.of(fault)
    assert verdict["status"] == "fail"
    assert NAMED[fault.name] in verdict["causes"][0], (verdict["causes"], verdict["reason"])
    assert NAMED[fault.name] in verdict["reason"]


@pytest.mark.parametrize("fault", planted("pytorch", ["fp64", "fp32"], ["training_mode"]))
def test_statistics_of_the_batch_are_caught_and_named(fault, verdicts):
    verdict = verdicts.of(fault)
    assert verdict["status"] == "fail"
    causes = verdict["causes"]
    assert STATISTICS_OF_THE_BATCH in causes[0], (causes, verdict["reason"])


@pytest.mark.parametrize("fault", planted("litert", ["fp32"], ["unfrozen"]))
def test_a_model_that_was_exported_without_its_weights_is_caught_and_named(fault, verdicts):
    verdict = verdicts.of_the_command(fault)
    assert verdict["status"] == "fail"
    assert "not finite" in verdict["reason"]
    assert WITHOUT_WEIGHTS in verdict["causes"][0]


@pytest.mark.parametrize("fault", planted("litert", ["int8"], OF_INTEGERS))
def test_a_model_in_int8_shows_its_products_of_integers(fault, verdicts):
    verdict = verdicts.of(fault)
    assert verdict["status"] == "fail"
    assert OF_INTEGERS[fault.name] in verdict["reason"]
