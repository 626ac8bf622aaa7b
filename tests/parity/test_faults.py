"""Mistakes planted into two real implementations: each is caught, and named in the output."""

from __future__ import annotations

import parity_cli
import pytest

from tests.parity import planting

NAMED = {
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
    "scaled_gradient": f"the gradient of {planting.SCALED} is 1.01 times",
    "tf32_products": "precision",
    "bf16_products": "precision",
}
"""What the output says of each in fp64; of the products in fp32."""
UNDER_ANOTHER_NAME = ("tf32_products", "bf16_products")
IN_FP32 = {
    "no_decay": "weight decay is missing on the kernel of most layers",
    "decay_on_norm": "weight decay is applied to the scale of most layers",
}
"""What is caught where there is no fp64 as well, though rounding hides it in each gradient."""
SEEDS = 20


@pytest.fixture(scope="module", params=["pytorch", pytest.param("jax", marks=pytest.mark.slow)])
def cells(request, cache, tmp_path_factory):
    """Every fault in one framework, by its precision and its name."""
    folder = tmp_path_factory.mktemp(request.param) / "planted"
    names = [n for n in planting.write_extension(folder, NAMED) if n.startswith(request.param)]
    execution = "eager" if request.param == "pytorch" else "compiled"
    found = {}
    faults = {
        "fp64": tuple(fault for fault in NAMED if fault not in UNDER_ANOTHER_NAME),
        "fp32": (*UNDER_ANOTHER_NAME, *IN_FP32),
    }
    for precision, planted in faults.items():
        chosen = [name for name in names if name.endswith(planted)]
        for cell in parity_cli.cells_of(
            *("--extend", str(folder), f"framework={','.join(chosen)}"),
            *(f"execution={execution}", f"precision={precision}"),
            cache=cache,
        ):
            found[precision, cell["framework"].removeprefix(f"{request.param}_")] = cell
    return found


@pytest.mark.parametrize("fault", NAMED)
def test_a_planted_fault_is_caught_and_named(fault, cells):
    cell = cells["fp32" if fault in UNDER_ANOTHER_NAME else "fp64", fault]
    assert cell["status"] == "fail"
    assert any(NAMED[fault] in cause for cause in cell["causes"]), cell["causes"]
    assert cell["reason"]


@pytest.mark.parametrize("fault", IN_FP32)
def test_a_decay_is_caught_and_named_in_fp32_too(fault, cells):
    cell = cells["fp32", fault]
    assert cell["status"] == "fail"
    assert any(IN_FP32[fault] in cause for cause in cell["causes"]), cell["causes"]


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["pytorch", "jax"])
def test_clean_code_raises_no_alarm_over_many_seeds(framework, cache):
    execution = "eager" if framework == "pytorch" else "compiled"
    cells = parity_cli.cells_of(
        f"framework={framework}",
        f"execution={execution}",
        "precision=fp64,fp32,bf16",
        f"seed=range({SEEDS})",
        cache=cache,
    )
    assert len(cells) == 3 * SEEDS
    assert [(c["case_id"], c["reason"]) for c in cells if c["status"] != "pass"] == []
