"""The decoder's mathematics: dimensions, counts, canonical arrays, known mistakes."""

import numpy as np
import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.planning.catalog import discover
from workloads.transformer import memory, network, weights
from workloads.transformer import training_reference as reference
from workloads.transformer.training_spec import SPECS

FRAMEWORKS = discover().frameworks
FINETUNE, LORA = SPECS["transformer_finetune"], SPECS["transformer_lora"]


def work(own=FINETUNE, size="tiny", length=None, batch_size=2, seed=0):
    length = length or own.default_option("sequence_length", size)
    return Work(own.name, 1, size, batch_size, (("sequence_length", length),), seed)


def memory_bytes(
    work, precision="fp32", recompute="none", *, framework="tensorflow", device="cuda"
):
    own = LORA if work.workload == LORA.name else FINETUNE
    way = Way(framework, "eager", precision, (("recompute", recompute),))
    capabilities = FRAMEWORKS[framework].capabilities
    return own.memory_bytes(Case(work, way, Place(device)), capabilities)


def test_seven_billion_is_llama_2s():
    assert network.num_parameters(network.SIZES["7b"]) == 6_738_415_616


@pytest.mark.parametrize("own", [FINETUNE, LORA])
def test_the_number_of_parameters_is_that_of_the_canonical_weights(own):
    arrays = dict(own.weights(work(own)))
    adapters = sum(array.size for name, array in arrays.items() if network.is_adapter(name))
    assert sum(a.size for a in arrays.values()) - adapters == network.num_parameters(
        network.SIZES["tiny"]
    )
    assert adapters == (network.num_adapter_parameters(network.SIZES["tiny"]) if own is LORA else 0)


def test_flop_of_a_full_step_are_six_for_each_weight_and_the_attentions():
    per_token = 6 * 6_607_077_376 + 12 * 32 * 4096 * 512
    assert FINETUNE.flop_per_step(work(size="7b", length=512, batch_size=3)) == 3 * 512 * per_token


def test_flop_of_lora_leave_out_what_is_frozen_and_what_nothing_needs():
    length, width, rank = 512, 4096, 16
    adapters = network.num_adapter_parameters(network.SIZES["7b"])
    per_token = (
        4 * 6_607_077_376
        + 6 * adapters
        + 12 * 32 * width * length
        - 3 * (2 * width**2 + 2 * width * rank)
    )
    assert LORA.flop_per_step(work(LORA, "7b", length, 1)) == length * per_token


@pytest.mark.parametrize(
    ("precision", "bytes_per_parameter"), [("fp32", 16), ("bf16", 18), ("bf16_pure", 8)]
)
def test_memory_grows_with_the_states_and_what_is_kept(precision, bytes_per_parameter):
    small, large = (work(size="7b", length=512, batch_size=b) for b in (1, 2))
    one, two = memory_bytes(small, precision), memory_bytes(large, precision)
    states = bytes_per_parameter * 6_738_415_616
    assert 2 * one - two - memory.FOOTPRINT_BYTES == states
    assert states < memory_bytes(large, precision, "full") < two


def test_lora_holds_its_base_in_the_compute_precision_without_states():
    own = work(LORA, "7b", 2, 1)
    assert 4 * 6_738_415_616 < memory_bytes(own, "fp32") < 4.5 * 6_738_415_616
    assert 2 * 6_738_415_616 < memory_bytes(own, "bf16") < 2.5 * 6_738_415_616
    # A CPU without bf16 units multiplies fp32 copies, which the backward pass needs again.
    assert 6 * 6_738_415_616 < memory_bytes(own, "bf16", device="cpu") < 6.5 * 6_738_415_616


@pytest.mark.parametrize(
    ("framework", "precision", "device", "value_bytes"),
    [
        ("tensorflow", "bf16", "cuda", 6),
        ("tensorflow", "fp32", "cuda", 4),
        ("tensorflow", "fp64", "cpu", 8),
        ("jax", "bf16", "cuda", 0),
        ("jax", "bf16", "cpu", 6),
        ("jax", "fp32", "cuda", 4),
        ("pytorch", "fp32", "cpu", 0),
        ("keras_torch", "bf16_pure", "cuda", 0),
    ],
)
def test_attention_weights_take_memory_where_no_fused_kernel_does_without(
    framework, precision, device, value_bytes
):
    short, long = (
        memory_bytes(
            work(LORA, "7b", length, 8192 // length),
            precision,
            framework=framework,
            device=device,
        )
        for length in (1024, 2048)
    )
    assert long - short == 8192 * 32 * 32 * 1024 * value_bytes  # tokens, layers, heads, positions


@pytest.mark.parametrize("own", [FINETUNE, LORA])
def test_canonical_weights_are_exact_in_bf16_reproducible_and_another_for_another_seed(own):
    first, again, other = (dict(own.weights(work(own, seed=seed))) for seed in (0, 0, 1))
    for name, array in first.items():
        assert array.dtype == np.float32
        assert not np.any(array.view(np.uint32) & 0xFFFF), name
        np.testing.assert_array_equal(array, again[name])
        assert not np.array_equal(array, other[name])
        assert np.all(array.std() > 0)


def test_rounding_to_bf16_is_to_the_nearest_and_halves_to_even():
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-9], np.float32)
    expected = np.array([1.0, 1.0, 1 + 4 * 2**-8, 1 + 2**-7, -1.0], np.float32)
    np.testing.assert_array_equal(weights._rounded_to_bf16(values), expected)


def test_a_label_is_the_token_that_follows():
    one = FINETUNE.batch(work(length=8), 0)
    assert one["tokens"].shape == one["labels"].shape == (2, 8)
    np.testing.assert_array_equal(one["tokens"][:, 1:], one["labels"][:, :-1])
    assert not np.array_equal(one["tokens"], FINETUNE.batch(work(length=8), 1)["tokens"])


def test_decay_is_for_matrices():
    decayed = {name for name, _ in FINETUNE.weights(work()) if network.is_decayed(name)}
    assert "embedding/table" in decayed
    assert all(array.ndim == 2 for name, array in FINETUNE.weights(work()) if name in decayed)
    assert all(array.ndim == 1 for name, array in FINETUNE.weights(work()) if name not in decayed)


@pytest.mark.parametrize("own", [FINETUNE, LORA])
def test_every_known_mistake_has_an_outcome_of_its_own(own):
    arrays, batch = dict(own.weights(work(own))), own.batch(work(own), 0)
    right = reference.last_layer(
        network.SIZES["tiny"], reference.Mathematics(), arrays, batch
    ).outcome()
    found = {"right": right, **dict(own.known_mistakes(work(own), arrays, batch))}
    names = {*reference.MISTAKES, *(reference.LORA_MISTAKES if own is LORA else ())}
    assert names < set(found)
    limit = 10 * own.tolerances["fp32"]["stable_gradient"]
    for name, one in found.items():
        for other_name, other in found.items():
            off = np.linalg.norm(one["head/kernel"] - other["head/kernel"])
            gap = off / np.linalg.norm(right["head/kernel"])
            assert name == other_name or gap > limit, (name, other_name)


def test_constants_are_those_of_the_forward_pass_and_right_by_default():
    arrays, batch = dict(FINETUNE.weights(work())), FINETUNE.batch(work(), 0)
    right = reference.loss(network.SIZES["tiny"], reference.Mathematics(), arrays, batch)
    found = {one.name: one for one in FINETUNE.other_constants(work(), arrays, batch)}
    assert set(found) == {"epsilon of RMSNorm", "base of RoPE", "label smoothing"}
    for one in found.values():
        assert float(one.outcome(one.right)["loss"]) == pytest.approx(right, rel=1e-12)
