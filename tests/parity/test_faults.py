"""Mistakes planted into two real implementations: each is caught, and named in the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.parity import parity_cli, planted_resnet50, planting
from tests.parity.faults import Fault, parameters

UNKNOWN = "cause unknown"
"""What is said of a fault that no mistake explains."""
RESNET = {
    "same_padding": "padding: SAME pads a strided window on one side",
    "epsilon": "epsilon of batch normalisation: 0.001 in place of 1e-05",
    "smaller_epsilon": "epsilon of batch normalisation: 1e-06 in place of 1e-05",
    "near_epsilon": "epsilon of batch normalisation: 1.01e-05 in place of 1e-05",
    "swapped_momentum": "momentum of batch normalisation",
    "slow_momentum": "momentum of batch normalisation: the running statistics moved 0.1 times",
    "biased_variance": "biased variance (divided by n in place of n - 1)",
    "transposed_dense": "transposed dense kernel head/kernel",
    "v1_strides": "the stride of a block is in its first 1x1 convolution (v1)",
    "no_decay": "weight decay is missing on",
    "decay_on_norm": "weight decay is applied to stem/conv/bn/scale",
    "decoupled_decay": "decoupled",
    "dropped_label": "labels: that of item 0 is dropped",
    "labels_of_others": "labels: each image has another image's",
    "label_smoothing": "label smoothing: 0.001 in place of 0",
    "images_in_fp16": "the images are rounded to float16",
    "no_last_rectifier": "the last block's rectifier is missing",
    "head_in_fp16": "the dense layer computes in float16",
    "constant_batch": "the batch does not matter",
    "batch_order": "batches in another order",
    "no_update": "the step does not update",
    "scaled_gradient": f"the gradient of {planted_resnet50.SCALED} is 1.01 times",
    "summed_gradient": "every gradient is 8 times the expected one: the loss's gradient is a sum",
    "nesterov": "Nesterov's momentum",
    "faster": "learning rate: the weights move 1.01 times as far as",
    "tf32_products": "rounds the operands of every convolution to 11 significant bits",
    "bf16_products": "rounds the operands of every convolution to 8 significant bits",
}
"""What the output says of each in fp64; of the products in fp32."""
PRODUCTS = ("tf32_products", "bf16_products")
"""Products that are rounded, which pass as another precision's."""
RESNET_IN_FP32 = {
    "no_decay": "weight decay is missing on the kernel of most layers",
    "decay_on_norm": "weight decay is applied to the scale of most layers",
    "smaller_epsilon": RESNET["smaller_epsilon"],
    **{
        name: RESNET[name]
        for name in (
            *("label_smoothing", "images_in_fp16", "no_last_rectifier", "head_in_fp16"),
            *("nesterov", "faster", "decoupled_decay", "summed_gradient", "batch_order"),
            *("slow_momentum", "biased_variance"),
        )
    },
}
"""What is caught where there is no fp64 as well, though rounding hides much of each gradient."""
FINETUNE = {
    "rope_interleaved": "RoPE rotates interleaved pairs",
    "rope_base": "base of RoPE: 10001 in place of 10000",
    "norm_epsilon": "epsilon of RMSNorm: 1e-06 in place of 1e-05",
    "near_norm_epsilon": "epsilon of RMSNorm: 1.1e-05 in place of 1e-05",
    "scores_by_dimension": "attention scores are divided by the head's dimension, not by its root",
    "gate_swapped": "the MLP's gate and up are swapped",
    "logits_in_bf16": "the logits are rounded to bfloat16",
    "adam_epsilon": "Adam's epsilon is 1.1e-05 in place of 1e-05",
    "adam_epsilon_outside": "Adam's epsilon is added to the uncorrected root",
    "correction_ahead": "Adam's bias correction is one step ahead",
    "correction_later": "Adam's bias correction stays that of step 1",
    "decay_on_norm": "weight decay is applied to layer0/attention_norm/scale",
    "mask_off_by_one": "the causal mask is off by one: each position sees the next one",
    "head_tied": "the head is tied to the embedding",
    "decay_in_gradient": "weight decay is applied to",
    "no_decay": "weight decay is missing on",
    "no_decay_of_embedding": "weight decay is missing on embedding/table (",
    "beta2": "beta2 of Adam: its second moment is 0.02 times the expected one",
    "near_beta2": "as with a beta2 of 0.951",
    "faster": "learning rate: the weights move 1.01 times as far as",
    "clipped": "every gradient is 0.2856 times the expected one: clipped to a norm of 1",
    "no_update": "the step does not update",
    "label_changed": "labels: a label is changed",
    "labels_shifted": "labels are shifted twice",
    "labels_unshifted": "labels are not shifted",
    "constant_batch": "the batch does not matter",
    "batch_order": "batches in another order",
    "tf32_products": UNKNOWN,
}
LORA = {
    "rope_interleaved": "RoPE rotates interleaved pairs",
    "lora_unscaled": "the adapters are not scaled by alpha / rank",
    "base_thawed": "frozen base weights are in the optimizer, or are decayed",
    "base_thawed_later": "frozen base weights are in the optimizer, or are decayed",
    "adam_epsilon_outside": "Adam's epsilon is added to the uncorrected root",
}
IN_ONE_FRAMEWORK = {
    Fault(
        "resnet50_train", "pytorch", "fp64", "dampened"
    ): "the gradient enters the moments 0.1 times: dampened momentum",
    Fault("resnet50_train", "jax", "fp64", "dampened"): (
        "every gradient is 0.1 times the expected one: dampened momentum"
    ),
    Fault("resnet50_train", "pytorch", "fp64", "skipped_updates"): "its work is left out",
    Fault(
        "resnet50_train", "pytorch", "fp64", "kept_gradients"
    ): "gradients are added up from step to step",
    Fault("transformer_finetune", "pytorch", "fp64", "skipped_updates"): "its work is left out",
    Fault(
        "transformer_finetune", "pytorch", "fp64", "kept_gradients"
    ): "gradients are added up from step to step",
    Fault("transformer_finetune", "jax", "fp32", "softmax_in_bf16"): UNKNOWN,
}
"""Faults that only one framework invites, or that begin at another step in each."""
PLANTED = {
    "resnet50_train": RESNET,
    "transformer_finetune": FINETUNE,
    "transformer_lora": LORA,
}
"""The faults of each workload, with what is said of them."""
IN_FP32 = {
    "resnet50_train": RESNET_IN_FP32,
    "transformer_finetune": FINETUNE,
    "transformer_lora": LORA,
}
ONLY_REPEATED = set(FINETUNE) - {"no_decay", "decay_on_norm", *PRODUCTS}
"""The whole fine-tune's faults of which fp32 shows no more than fp64."""
IN_BF16 = ("no_decay", "decay_on_norm")
"""The whole fine-tune's faults that hide in the rounding of each update."""
IN_TF32 = {
    fault: FINETUNE[fault] for fault in ("no_decay", "beta2", "rope_interleaved", "decay_on_norm")
}
"""The whole fine-tune's. Their products are those of fp32, which pass for those of TF32."""
IN_CLASSES = {"resnet50_train": "scaled_gradient", "transformer_finetune": "adam_epsilon_outside"}
"""By workload a fault that changes a class of its implementation."""
SEEDS = 20
FIRST = Fault("resnet50_train", "pytorch", "fp64", "same_padding")
"""A fault that the command is asked about as well."""


def _said(workload: str) -> dict[str, Mapping[str, str]]:
    """By precision the faults that are caught and named, each with what is said of it."""
    faults = PLANTED[workload]
    products = {fault: faults[fault] for fault in PRODUCTS if fault in faults}
    return {
        "fp64": {fault: said for fault, said in faults.items() if fault not in products},
        "fp32": {**products, **IN_FP32[workload]},
        "tf32": IN_TF32 if workload == "transformer_finetune" else {},
    }


def _grouped(faults: Mapping[Fault, str]) -> dict[Fault, str]:
    """The same faults, those of one process one after another."""
    return dict(sorted(faults.items(), key=lambda one: one[0][:3]))


SAID = _grouped(
    {
        Fault(workload, framework, precision, name): words
        for framework in ("pytorch", "jax")
        for workload in PLANTED
        for precision, faults in _said(workload).items()
        for name, words in faults.items()
    }
    | IN_ONE_FRAMEWORK
)
"""What the output says of each fault; those of one process one after another."""


def repeats(fault: Fault) -> bool:
    """Whether fp32 shows no more of the fault than fp64 does."""
    return fault[::2] == ("transformer_finetune", "fp32") and fault.name in ONLY_REPEATED


def of_finetune(precision: str, *names: str) -> list[Any]:
    """The parameters of faults of the whole fine-tune."""
    return parameters(
        Fault("transformer_finetune", framework, precision, name)
        for framework in ("pytorch", "jax")
        for name in names
    )


@pytest.mark.parametrize("fault", parameters(SAID, slow=repeats))
def test_a_planted_fault_is_caught_and_named(fault, verdicts):
    verdict = verdicts.of(fault)
    assert verdict["status"] == "fail"
    named = verdict["causes"][0] if verdict["causes"] else UNKNOWN
    assert SAID[fault] in named, (verdict["causes"], verdict["reason"])
    assert verdict["reason"].endswith(named)
    assert "precision" not in verdict["reason"]


@pytest.mark.parametrize("fault", of_finetune("bf16", *IN_BF16))
def test_a_wrong_decay_is_caught_in_bf16_too(fault, verdicts):
    verdict = verdicts.of(fault)
    assert verdict["status"] == "fail"
    assert "weight decay in the update" in verdict["reason"]


@pytest.mark.parametrize("fault", of_finetune("tf32", "tf32_products"))
def test_products_that_are_rounded_as_tf32_pass_for_it(fault, verdicts):
    verdict = verdicts.of(fault)
    assert (verdict["status"], verdict["reason"]) == ("pass", None)


@pytest.mark.parametrize(
    "fault",
    parameters(
        Fault(workload, framework, "fp64", name)
        for framework in ("pytorch", "jax")
        for workload, name in IN_CLASSES.items()
    ),
)
def test_a_fault_does_not_outlive_its_proof(fault, verdicts):
    assert verdicts.of(fault)["status"] == "fail"
    verdict = verdicts.without(fault)
    assert (verdict["status"], verdict["reason"]) == ("pass", None)


@pytest.mark.parametrize("fault", parameters([FIRST]))
def test_the_command_says_the_same(fault, verdicts):
    assert verdicts.of_the_command(fault) == verdicts.of(fault)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workload", PLANTED)
@pytest.mark.parametrize("framework", ["pytorch", "jax"])
def test_clean_code_raises_no_alarm_over_many_seeds(workload, framework, cache):
    cells = parity_cli.cells_of(
        f"framework={framework}",
        f"execution={planting.EXECUTIONS[framework]}",
        "precision=fp64,fp32,bf16",
        f"seed=range({SEEDS})",
        cache=cache,
        workload=workload,
    )
    assert len(cells) == 3 * SEEDS
    assert [(c["case_id"], c["reason"]) for c in cells if c["status"] != "pass"] == []
