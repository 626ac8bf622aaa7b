"""The decoder's requests: counts, prompts, what is forced, logits right and wrong, answers."""

import math

import numpy as np
import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.task import NUM_REQUESTS, WITHHELD
from benchmarks.planning.catalog import discover
from workloads.transformer import inference_reference as reference
from workloads.transformer import inference_spec as spec

SPEC = spec.SPECS["transformer_infer"]
FRAMEWORKS = discover().frameworks
PHASES = ("decode", "prefill")
SIZE = {"num_layers": 2, "width": 8, "num_heads": 2, "mlp_width": 12, "vocabulary_size": 11}
SEVEN_BILLION = 6_738_415_616


def work(phase="decode", size="tiny", length=None, batch_size=2, seed=0):
    length = length or SPEC.default_option("prompt_length", size)
    return Work(SPEC.name, 1, size, batch_size, (("phase", phase), ("prompt_length", length)), seed)


def case(own, precision="fp32", framework="jax"):
    return Case(own, Way(framework, "eager", precision), Place("cuda"))


def memory_bytes(own, precision="fp32", framework="jax"):
    return SPEC.memory_bytes(case(own, precision, framework), FRAMEWORKS[framework].capabilities)


def products_of_a_layer(num_rows, num_seen, width, mlp_width):
    """(rows, inputs, outputs) of every product of one layer; of attention over all heads."""
    yield from [(num_rows, width, width)] * 4
    yield from [(num_rows, width, mlp_width)] * 3
    yield from [(num_rows, width, num_seen)] * 2


def counted(size, num_rows, num_seen):
    """FLOP of one sequence whose last row alone is answered."""
    own = spec.SIZES[size]
    layer = products_of_a_layer(num_rows, num_seen, own["width"], own["mlp_width"])
    head = own["width"] * own["vocabulary_size"]
    return 2 * (own["num_layers"] * sum(math.prod(one) for one in layer) + head)


@pytest.mark.parametrize("size", ["tiny", "small", "7b"])
def test_flop_are_those_of_every_product_with_the_head_once_an_answer(size):
    decode, prefill = (work(phase, size, length=48, batch_size=3) for phase in PHASES)
    assert SPEC.flop_per_step(prefill) == 3 * counted(size, 48, 48)
    assert SPEC.flop_per_step(decode) == 3 * counted(size, 1, 48 + spec.NUM_NEW_TOKENS[size])


def test_items_are_the_prompts_tokens_or_one_of_each_sequence():
    prefill, decode = work("prefill", length=48, batch_size=3), work(length=48, batch_size=3)
    assert (SPEC.items_per_step(prefill), SPEC.items_per_step(decode)) == (144, 3)
    assert SPEC.task.per_batch(prefill) == 1
    assert SPEC.task.per_batch(decode) == spec.NUM_NEW_TOKENS["tiny"]


@pytest.mark.parametrize(("precision", "value_bytes"), [("fp32", 4), ("bf16", 2), ("fp64", 8)])
def test_memory_is_weights_and_cache_at_least(precision, value_bytes):
    short, long = (work(size="7b", length=n, batch_size=4) for n in (512, 1024))
    assert SPEC.task.num_weight_bytes(case(short, precision)) == value_bytes * SEVEN_BILLION
    assert memory_bytes(short, precision) > value_bytes * SEVEN_BILLION
    cached = 2 * 32 * 4096 * 4 * 512 * value_bytes
    added = memory_bytes(long, precision) - memory_bytes(short, precision)
    assert cached < added


def test_memory_has_attention_weights_where_no_fused_kernel_does_without():
    def above_linear(framework):
        one, two, three = (
            memory_bytes(work(length=n), framework=framework) for n in (64, 128, 192)
        )
        return three - 2 * two + one

    assert above_linear("pytorch") == 0
    assert above_linear("jax") == 2 * 2 * 4 * 2 * 64**2 * 4  # twice, batch, heads, bytes


def test_both_phases_are_cells_and_a_prompt_is_as_long_as_its_size_says():
    assert SPEC.every_value_of == ("phase",)
    assert SPEC.default_option("phase", "7b") == "decode"
    assert {size: SPEC.default_option("prompt_length", size) for size in SPEC.sizes} == (
        spec.PROMPT_LENGTHS
    )


@pytest.mark.parametrize("phase", PHASES)
def test_prompts_are_reproducible_distinct_and_alike_in_both_phases(phase):
    own = work(phase, length=16)
    prompts = [SPEC.batch(own, index)["tokens"] for index in range(SPEC.task.num_batches)]
    for index, tokens in enumerate(prompts):
        assert (tokens.shape, tokens.dtype) == ((2, 16), np.int32)
        np.testing.assert_array_equal(
            tokens, SPEC.batch(work("decode", length=16), index)["tokens"]
        )
    assert len({tokens.tobytes() for tokens in prompts}) == len(prompts)
    assert not np.array_equal(prompts[0], SPEC.batch(work(phase, length=16, seed=1), 0)["tokens"])


def test_only_what_decodes_and_is_withheld_is_forced():
    for index in (0, NUM_REQUESTS - 1):
        assert set(SPEC.batch(work(), index)) == {"tokens"}
    for index in WITHHELD:
        assert SPEC.batch(work(), index)["forced"].shape == (2, spec.NUM_NEW_TOKENS["tiny"])
        assert set(SPEC.batch(work("prefill"), index)) == {"tokens"}


def small_arrays(generator):
    """Weights of SIZE, in no particular spread."""
    width, mlp_width, vocabulary = SIZE["width"], SIZE["mlp_width"], SIZE["vocabulary_size"]
    shapes = {"embedding/table": (vocabulary, width), "head/kernel": (width, vocabulary)}
    shapes["final_norm/scale"] = (width,)
    for layer in range(SIZE["num_layers"]):
        for part in ("query", "key", "value", "output"):
            shapes[f"layer{layer}/attention/{part}/kernel"] = (width, width)
        for part in ("gate", "up"):
            shapes[f"layer{layer}/mlp/{part}/kernel"] = (width, mlp_width)
        shapes[f"layer{layer}/mlp/down/kernel"] = (mlp_width, width)
        for norm in ("attention_norm", "mlp_norm"):
            shapes[f"layer{layer}/{norm}/scale"] = (width,)
    return {name: generator.normal(size=shape) for name, shape in shapes.items()}


def normalised(x, scale):
    return x / math.sqrt(x @ x / len(x) + 1e-5) * scale


def turned(head, position):
    """A head's pairs as complex numbers, each turned by its angle."""
    half = len(head) // 2
    angles = [position * 10000.0 ** (-k / half) for k in range(half)]
    return (head[:half] + 1j * head[half:]) * np.exp(1j * np.array(angles))


def attended(query, keys, values):
    """One head's attention of one position."""
    scores = (np.conj(keys) @ query).real / math.sqrt(2 * len(query))
    return np.exp(scores) @ np.array(values) / np.exp(scores).sum()


def logits_by_steps(arrays, tokens):
    """Logits after each token of one sequence, token by token with a cache, in complex numbers."""
    num_heads = SIZE["num_heads"]
    cache = [[([], []) for _ in range(num_heads)] for _ in range(SIZE["num_layers"])]
    for position, token in enumerate(tokens):
        x = arrays["embedding/table"][token]
        for layer, heads in enumerate(cache):
            kernels = {
                name.split("/")[-2]: array
                for name, array in arrays.items()
                if name.startswith(f"layer{layer}/") and name.endswith("/kernel")
            }
            y = normalised(x, arrays[f"layer{layer}/attention_norm/scale"])
            query, key, value = (
                (y @ kernels[part]).reshape(num_heads, -1) for part in ("query", "key", "value")
            )
            mixed = []
            for head, (keys, values) in enumerate(heads):
                keys.append(turned(key[head], position))
                values.append(value[head])
                mixed.append(attended(turned(query[head], position), keys, values))
            x = x + np.concatenate(mixed) @ kernels["output"]
            y = normalised(x, arrays[f"layer{layer}/mlp_norm/scale"])
            gate = y @ kernels["gate"]
            x = x + (gate / (1 + np.exp(-gate)) * (y @ kernels["up"])) @ kernels["down"]
        yield normalised(x, arrays["final_norm/scale"]) @ arrays["head/kernel"]


def test_whole_sequences_have_the_logits_of_steps_with_a_cache():
    generator = np.random.default_rng(0)
    arrays = small_arrays(generator)
    tokens = generator.integers(0, SIZE["vocabulary_size"], (2, 9))
    expected = np.array([list(logits_by_steps(arrays, one)) for one in tokens]).swapaxes(0, 1)
    right = reference.Mathematics()
    forced = {"tokens": tokens[:, :5], "forced": tokens[:, 5:]}
    np.testing.assert_allclose(reference.logits(SIZE, right, arrays, forced), expected[5:], 1e-12)
    prompt = reference.logits(SIZE, right, arrays, {"tokens": tokens})
    np.testing.assert_allclose(prompt, expected[-1:], 1e-12)


@pytest.mark.parametrize("phase", PHASES)
def test_every_known_mistake_has_logits_of_its_own(phase):
    own = work(phase)
    weights, batch = dict(SPEC.weights(own)), SPEC.batch(own, WITHHELD[0])
    requests = SPEC.task
    found = {"right": requests.recompute(own, weights, batch)}
    found.update(requests.known_mistakes(own, weights, batch))
    assert len(found) == 1 + len(reference.MISTAKES) + len(
        reference.DECODE_MISTAKES if phase == "decode" else reference.PREFILL_MISTAKES
    )
    shape = (requests.per_batch(own), 2, spec.SIZES["tiny"]["vocabulary_size"])
    limit = 10 * spec.TOLERANCES["fp32"]["logits"]
    for name, one in found.items():
        assert one.shape == shape
        for other_name, other in found.items():
            gap = np.linalg.norm(one - other) / np.linalg.norm(found["right"])
            assert name == other_name or gap > limit, (name, other_name)


def test_a_prompt_of_one_token_has_no_position_before_its_last():
    own = work("prefill", length=1)
    weights, batch = dict(SPEC.weights(own)), SPEC.batch(own, WITHHELD[0])
    mistakes = dict(SPEC.task.known_mistakes(own, weights, batch))
    assert "the logits are of the position before the prompt's last" not in mistakes


def test_an_answer_is_right_where_it_is_any_argmax():
    logits = {"logits": np.array([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]], np.float32)}
    for first in (1, 2):
        assert spec.answer_error(np.array([first, 0], np.int32), logits) == 0


def test_another_answer_is_off_by_what_its_logit_lacks_in_units_of_the_row():
    logits = {"logits": np.array([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]])}
    error = spec.answer_error(np.array([0, 1]), logits)
    assert error == pytest.approx(max(2 / math.sqrt(19 / 3), 1 / math.sqrt(5 / 3)))


@pytest.mark.parametrize(
    "answer", [np.array([0]), np.array([0.0, 1.0]), np.array([0, 3]), np.array([-1, 0])]
)
def test_what_is_no_token_of_each_sequence_is_no_answer(answer):
    assert spec.answer_error(answer, {"logits": np.eye(2, 3)}) == math.inf
