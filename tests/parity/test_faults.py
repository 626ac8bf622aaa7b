"""Mistakes planted into two real implementations: each is caught, and named in the output."""

from __future__ import annotations

import parity_cli
import pytest

from tests.parity import planted_resnet50, planting

RESNET = {
    "same_padding": "padding (SAME pads a strided convolution on one side)",
    "epsilon": "epsilon of batch normalisation",
    "swapped_momentum": "momentum of batch normalisation",
    "transposed_dense": "transposed dense kernel head/kernel",
    "v1_strides": "stride or transposed kernel of the 1x1 convolution before stage2/block1/conv1",
    "no_decay": "weight decay is missing on",
    "decay_on_norm": "weight decay is applied to stem/conv/bn/scale",
    "dampened": "dampened",
    "dropped_label": "labels: a label is dropped or changed",
    "constant_batch": "the batch does not matter",
    "no_update": "the step does not update",
    "scaled_gradient": f"the gradient of {planted_resnet50.SCALED} is 1.01 times",
    "tf32_products": "precision",
    "bf16_products": "precision",
}
"""What the output says of each in fp64; of the products in fp32."""
UNDER_ANOTHER_NAME = ("tf32_products", "bf16_products")
RESNET_IN_FP32 = {
    "no_decay": "weight decay is missing on the kernel of most layers",
    "decay_on_norm": "weight decay is applied to the scale of most layers",
}
"""What is caught where there is no fp64 as well, though rounding hides it in each gradient."""
FINETUNE = {
    "rope_interleaved": "RoPE rotates interleaved pairs",
    "norm_epsilon": "epsilon of RMSNorm: 1e-6 in place of 1e-5",
    "adam_epsilon_outside": "Adam's epsilon is added to the uncorrected root",
    "decay_on_norm": "weight decay is applied to layer0/attention_norm/scale",
    "mask_off_by_one": "the causal mask is off by one: each position sees the next one",
    "head_tied": "the head is tied to the embedding",
    "decay_in_gradient": "weight decay is applied to",
    "no_decay": "weight decay is missing on",
    "beta2": "beta2 of Adam",
    "no_update": "the step does not update",
    "label_changed": "labels: a label is dropped or changed",
    "constant_batch": "the batch does not matter",
    "tf32_products": "precision",
}
LORA = {
    "rope_interleaved": "RoPE rotates interleaved pairs",
    "lora_unscaled": "the adapters are not scaled by alpha / rank",
    "base_thawed": "frozen base weights are in the optimizer, or are decayed",
    "base_thawed_later": "frozen base weights are in the optimizer, or are decayed",
    "adam_epsilon_outside": "Adam's epsilon is added to the uncorrected root",
}
PLANTED = {
    "resnet50_train": ("resnet50", RESNET),
    "transformer_finetune": ("transformer", FINETUNE),
    "transformer_lora": ("transformer", LORA),
}
"""The folder of each workload, and its faults with what is said of them."""
IN_FP32 = {
    "resnet50_train": RESNET_IN_FP32,
    "transformer_finetune": FINETUNE,
    "transformer_lora": LORA,
}
IN_BF16 = ("no_decay", "decay_on_norm")
"""Of the decoder's, what hides in the rounding of each update."""
IN_TF32 = {
    **{fault: FINETUNE[fault] for fault in ("no_decay", "beta2", "rope_interleaved")},
    "decay_on_norm": "weight decay is applied to the scale of most layers",
}
"""Of the decoder's. Their products are those of fp32, which pass for those of TF32."""
SEEDS = 20


class Planted:
    """The faults of the workloads in one framework, proven when they are first asked for."""

    def __init__(self, framework, cache, folder):
        self.framework, self.cache, self.folder = framework, cache, folder
        self.found = {}

    def cell(self, workload, precision, fault):
        if (workload, precision) not in self.found:
            self.found[workload, precision] = self._cells(workload, precision)
        return self.found[workload, precision][fault]

    def _cells(self, workload, precision):
        model, faults = PLANTED[workload]
        asked = {
            "fp64": [one for one in faults if one not in UNDER_ANOTHER_NAME],
            "fp32": [*UNDER_ANOTHER_NAME, *IN_FP32[workload]],
            "bf16": [*IN_BF16],
            "tf32": ["tf32_products", *IN_TF32],
        }[precision]
        folder = self.folder / workload / "planted"
        names = planting.write_extension(folder, faults, model=model, workloads=[workload])
        chosen = [one for one in names if one in [f"{self.framework}_{fault}" for fault in asked]]
        cells = parity_cli.cells_of(
            *("--extend", str(folder), f"framework={','.join(chosen)}"),
            f"execution={'eager' if self.framework == 'pytorch' else 'compiled'}",
            f"precision={precision}",
            cache=self.cache,
            workload=workload,
        )
        return {cell["framework"].removeprefix(f"{self.framework}_"): cell for cell in cells}


@pytest.fixture(scope="module", params=["pytorch", pytest.param("jax", marks=pytest.mark.slow)])
def planted(request, cache, tmp_path_factory):
    """The faults in one framework."""
    return Planted(request.param, cache, tmp_path_factory.mktemp(request.param))


def named(cell, words):
    """The fault is caught, and its name is among the causes."""
    assert cell["status"] == "fail"
    assert any(words in cause for cause in cell["causes"]), (cell["causes"], cell["reason"])
    assert cell["reason"]


@pytest.mark.parametrize(
    ("workload", "fault"),
    [(workload, fault) for workload, (_, faults) in PLANTED.items() for fault in faults],
)
def test_a_planted_fault_is_caught_and_named(workload, fault, planted):
    precision = "fp32" if fault in UNDER_ANOTHER_NAME else "fp64"
    named(planted.cell(workload, precision, fault), PLANTED[workload][1][fault])


@pytest.mark.parametrize(
    ("workload", "fault"),
    [(workload, fault) for workload, faults in IN_FP32.items() for fault in faults],
)
def test_a_fault_is_caught_and_named_in_fp32_too(workload, fault, planted):
    named(planted.cell(workload, "fp32", fault), IN_FP32[workload][fault])


@pytest.mark.parametrize("fault", IN_BF16)
def test_a_wrong_decay_is_caught_in_bf16_too(fault, planted):
    cell = planted.cell("transformer_finetune", "bf16", fault)
    assert cell["status"] == "fail"
    assert "weight decay in the update" in cell["reason"]


def test_products_that_are_rounded_as_tf32_pass_for_it(planted):
    cell = planted.cell("transformer_finetune", "tf32", "tf32_products")
    assert (cell["status"], cell["reason"]) == ("pass", None)


@pytest.mark.parametrize("fault", IN_TF32)
def test_a_fault_is_caught_in_tf32_too(fault, planted):
    named(planted.cell("transformer_finetune", "tf32", fault), IN_TF32[fault])


@pytest.mark.slow
@pytest.mark.parametrize("workload", PLANTED)
@pytest.mark.parametrize("framework", ["pytorch", "jax"])
def test_clean_code_raises_no_alarm_over_many_seeds(workload, framework, cache):
    execution = "eager" if framework == "pytorch" else "compiled"
    cells = parity_cli.cells_of(
        f"framework={framework}",
        f"execution={execution}",
        "precision=fp64,fp32,bf16",
        f"seed=range({SEEDS})",
        cache=cache,
        workload=workload,
    )
    assert len(cells) == 3 * SEEDS
    assert [(c["case_id"], c["reason"]) for c in cells if c["status"] != "pass"] == []
