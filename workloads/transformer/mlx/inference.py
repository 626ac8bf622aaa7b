"""The decoder answering requests in MLX: prefill, and decode with a cache, lazily or compiled.

Tuned: projections of one input are one product, and normalisation, rotation and attention are MLX's
own kernels. `eager` records each step and attends to the part of the cache that is filled;
`compiled` is one graph for all positions, which masks the rest. Kernels are held OI, as MLX's
Linear holds them; on a CPU they lie in memory as IO, where products are a third faster so.

Shapes: B batch, P positions of the prompt, N new tokens, T positions of a pass, S positions of the
cache, D width, H heads, K head dimension, F width of the MLP, V vocabulary, O outputs of a
projection.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

import mlx.core as mx
import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.mlx.adapter import COMPUTE_DTYPES, dtype_name
from workloads.transformer import inference_spec as spec
from workloads.transformer import network

IMPLEMENTS = {"transformer_infer"}

ATTENTION_MARKS = {
    "ScaledDotProductAttention": "mx.fast, fused",
    "Softmax": "mx.fast, composed of products and softmax",
    "Expm1": "float64's own, composed of products and expm1",
}
"""An operation of a recorded step, and what it says of its attention: the first that is there."""


class Numerics(NamedTuple):
    """What a precision means here."""

    compute: Any
    """Activations, products, weights and the cache. MLX sums bf16 products in float32 by itself."""
    wide: Any
    """Normalisation and logits."""
    fast: Any
    """What rotation and attention of mx.fast are given: GPU kernels compute in float32 whatever
    they take, and on the CPU they are composed of operations in the dtype of what they take."""


def numerics_of(*, precision: str, device: str) -> Numerics:
    """The dtypes of a precision on a device."""
    compute = COMPUTE_DTYPES[precision]
    wide = mx.float64 if compute == mx.float64 else mx.float32
    return Numerics(compute, wide, fast=wide if device == "cpu" else compute)


def build(problem: Problem, framework: Framework) -> DecoderInference:
    """The program of this case, without weights and requests yet."""
    return DecoderInference(problem, framework)


Held = dict[str, mx.array]
"""Arrays by name."""


class Answer(NamedTuple):
    """What a pass leaves beside the cache."""

    logits_BV: mx.array
    """After each sequence's last token, in float32 or wider."""
    tokens_B: mx.array
    """Their argmax, int32."""


class Window(NamedTuple):
    """Where the tokens of a pass are, and what they see of the cache."""

    start: int | mx.array
    """Position of the first."""
    length: int
    seen: slice
    mask: str | mx.array | None = None
    """Which of these: `causal`, of an array those where it is true, or all."""


class Operations(NamedTuple):
    """What a decoder is made of beside its products."""

    normalise: Callable[[mx.array, mx.array], mx.array]
    """x BTD and scale D to the normalised x: Zhang and Sennrich (2019)."""
    rotate: Callable[[mx.array, Window], mx.array]
    """RoPE of x BHTK, on pairs of its halves: Su et al. (2021), section 3.4.2."""
    attend: Callable[[mx.array, mx.array, mx.array, Window], mx.array]
    """Query BHTK, keys and values BHSK to attention BHTK."""
    gate: Callable[[mx.array], mx.array]
    """x to x sigmoid(x)."""


def fast_operations(numerics: Numerics, constants: Mapping[str, float]) -> Operations:
    """MLX's own kernels, where the device has them."""
    compute, wide, fast = numerics

    def normalise(x_BTD: mx.array, scale_D: mx.array) -> mx.array:
        # Wide on a GPU too, whose kernel rounds to what it took before it scales.
        epsilon = constants["rms_norm_epsilon"]
        return mx.fast.rms_norm(x_BTD.astype(wide), scale_D, epsilon).astype(compute)

    def rotate(x_BHTK: mx.array, window: Window) -> mx.array:
        base, offset = constants["rotary_base"], window.start
        return mx.fast.rope(
            x_BHTK.astype(fast),
            x_BHTK.shape[-1],
            traditional=False,
            base=base,
            scale=1.0,
            offset=offset,
        ).astype(compute)

    def attend(query: mx.array, keys: mx.array, values: mx.array, window: Window) -> mx.array:
        scale = 1 / math.sqrt(query.shape[-1])
        operands = (x.astype(fast) for x in (query, keys, values))
        mixed = mx.fast.scaled_dot_product_attention(*operands, scale=scale, mask=window.mask)
        return mixed.astype(compute)

    def gate(x: mx.array) -> mx.array:
        return x * mx.sigmoid(x)  # nn.silu would be compiled by itself, in eager execution too

    return Operations(normalise, rotate, attend, gate)


def float64_operations(constants: Mapping[str, float], cache_length: int) -> Operations:
    """The same in all digits of float64; parity only.

    MLX 0.32.4 computes mx.fast in float32 there, and exp, sigmoid, softmax and cos to seven digits;
    expm1, tanh and rsqrt to all of them.
    """

    def normalise(x_BTD: mx.array, scale_D: mx.array) -> mx.array:
        mean_BT1 = mx.square(x_BTD).mean(-1, keepdims=True)
        return x_BTD * mx.rsqrt(mean_BT1 + constants["rms_norm_epsilon"]) * scale_D

    def rotate(x_BHTK: mx.array, window: Window) -> mx.array:
        dimension = x_BHTK.shape[-1]
        frequencies = constants["rotary_base"] ** (-np.arange(0, dimension, 2) / dimension)
        angles = np.arange(cache_length)[:, None] * frequencies
        rows = window.start + mx.arange(window.length)
        cos, sin = (mx.array(table, mx.float64)[rows] for table in (np.cos(angles), np.sin(angles)))
        first, second = mx.split(x_BHTK, 2, -1)
        return mx.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    def attend(query: mx.array, keys: mx.array, values: mx.array, window: Window) -> mx.array:
        scores = query @ keys.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
        if window.mask is not None:
            sees = window.mask
            if isinstance(sees, str):
                sees = mx.tri(window.length, dtype=mx.bool_)
            scores = mx.where(sees, scores, -math.inf)
        weights = mx.expm1(scores - scores.max(-1, keepdims=True)) + 1
        return weights @ values / weights.sum(-1, keepdims=True)

    def gate(x: mx.array) -> mx.array:
        return x * (0.5 + 0.5 * mx.tanh(0.5 * x))

    return Operations(normalise, rotate, attend, gate)


class Decoder:
    """What is computed of weights and a cache, which is a dictionary and holds what is new then."""

    def __init__(self, problem: Problem) -> None:
        constants, way = problem.hyperparameters, problem.case.way
        self.parameters = problem.parameters
        self.cache_length = spec.cache_length(problem.case.work)
        self.numerics = numerics_of(precision=way.precision, device=problem.case.place.device)
        self._num_heads = problem.parameters["num_heads"]
        if self.numerics.wide == mx.float64:
            self._operations = float64_operations(constants, self.cache_length)
        else:
            self._operations = fast_operations(self.numerics, constants)

    def prefill(self, weights: Held, cache: Held, tokens_BP: mx.array) -> Answer:
        """The answer to a prompt, whose keys and values the cache holds then."""
        return self._answer(weights, cache, tokens_BP, prompt_window(tokens_BP.shape[1]))

    def decode(self, weights: Held, cache: Held, tokens_B: mx.array, position: int) -> Answer:
        """The answer to these tokens, which are at this position."""
        return self._answer(
            weights, cache, tokens_B[:, None], Window(position, 1, slice(position + 1))
        )

    def decode_masked(
        self, weights: Held, cache: Held, tokens_B: mx.array, position: mx.array
    ) -> Answer:
        """The same with the position on the device, and all of the cache: one graph for all."""
        sees_1S = (mx.arange(self.cache_length) <= position)[None]
        window = Window(position, 1, slice(None), mask=sees_1S)
        return self._answer(weights, cache, tokens_B[:, None], window)

    def embed(self, weights: Held, tokens_BT: mx.array) -> mx.array:
        """The tokens' rows of the table, BTD."""
        return weights["embedding/table"][tokens_BT]

    def pass_layer(
        self, name: str, weights: Held, cache: Held, x_BTD: mx.array, window: Window
    ) -> mx.array:
        """The layer's output, BTD."""
        normalise = self._operations.normalise
        y_BTD = normalise(x_BTD, weights[f"{name}/attention_norm/scale"])
        parts_BTO = y_BTD @ weights[f"{name}/query_key_value"].T
        mixed_BTD = self._attention(name, cache, parts_BTO, window)
        x_BTD = x_BTD + mixed_BTD @ weights[f"{name}/output"].T
        y_BTD = normalise(x_BTD, weights[f"{name}/mlp_norm/scale"])
        gate_BTF, up_BTF = mx.split(y_BTD @ weights[f"{name}/gate_up"].T, 2, -1)
        hidden_BTF = self._operations.gate(gate_BTF) * up_BTF  # Shazeer (2020), SwiGLU
        return x_BTD + hidden_BTF @ weights[f"{name}/down"].T

    def _answer(self, weights: Held, cache: Held, tokens_BT: mx.array, window: Window) -> Answer:
        x_BTD = self.embed(weights, tokens_BT)
        for index in range(self.parameters["num_layers"]):
            x_BTD = self.pass_layer(f"layer{index}", weights, cache, x_BTD, window)
        y_BD = self._operations.normalise(x_BTD[:, -1], weights["final_norm/scale"])
        logits_BV = (y_BD @ weights["head"].T).astype(self.numerics.wide)
        return Answer(logits_BV, logits_BV.argmax(-1).astype(mx.int32))

    def _attention(self, name: str, cache: Held, parts_BTO: mx.array, window: Window) -> mx.array:
        """The heads' attention of query, key and value side by side, BTD."""
        query, key, value = (
            mx.unflatten(part_BTD, -1, (self._num_heads, -1)).swapaxes(1, 2)
            for part_BTD in mx.split(parts_BTO, 3, -1)
        )
        query, key = (self._operations.rotate(x, window) for x in (query, key))
        start = mx.array(window.start).reshape(1)
        for kind, x_BHTK in (("keys", key), ("values", value)):
            kept = cache[f"{name}/{kind}"]
            cache[f"{name}/{kind}"] = mx.slice_update(kept, x_BHTK, start, (2,))
        keys, values = (cache[f"{name}/{kind}"][:, :, window.seen] for kind in ("keys", "values"))
        mixed_BHTK = self._operations.attend(query, keys, values, window)
        return mixed_BHTK.swapaxes(1, 2).flatten(-2)


def prompt_window(length: int) -> Window:
    """The first positions, each of which sees those up to itself."""
    return Window(0, length, slice(length), mask="causal")


def groups_of(parameters: Mapping[str, int]) -> Iterator[tuple[str, list[str]]]:
    """Every array that is held, and the canonical ones side by side in it."""
    yield "embedding/table", ["embedding/table"]
    yield "head", ["head/kernel"]
    yield "final_norm/scale", ["final_norm/scale"]
    for index in range(parameters["num_layers"]):
        for norm in ("attention_norm", "mlp_norm"):
            yield f"layer{index}/{norm}/scale", [f"layer{index}/{norm}/scale"]
        *inputs, output = network.attention_projections(parameters, index)
        *gate_up, down = network.mlp_projections(parameters, index)
        groups = {"query_key_value": inputs, "output": [output], "gate_up": gate_up, "down": [down]}
        for group, parts in groups.items():
            yield f"layer{index}/{group}", [f"{part.name}/kernel" for part in parts]


class DecoderInference:
    """Weights, cache and prompts on the device, and the functions; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        work = problem.case.work
        self._framework = framework
        self._work = work
        self._is_decode = spec.is_decode(work)
        self._per_batch = spec.per_batch(work)
        self._decoder = Decoder(problem)
        self._lies_as_IO = problem.case.place.device == "cpu"
        """How kernels lie in memory."""
        first = spec.prompt_length(work)
        self._positions: list[Any] = list(range(first, first + self._per_batch))
        self._weights: Held = {}
        self._cache: Held = {}
        self._prefill: Callable[..., Answer] = self._recorded_prefill
        self._decode: Callable[..., Answer] = self._recorded_decode
        if problem.case.way.execution == "compiled":
            self._compile()
        self._batches: list[tuple[mx.array, mx.array | None]] = []
        self._next = 0
        self._last: Any = None
        """The last answer."""

    def export(self, weights: Arrays) -> None:
        """Do nothing: the weights are loaded as they are."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; the cache is empty then.

        The dictionaries stay, which compiled functions read and write.
        """
        compute, wide, _ = self._decoder.numerics
        parameters, put = self._decoder.parameters, self._framework.put
        for name, parts in groups_of(parameters):
            whole = np.concatenate([weights[part] for part in parts], -1)
            is_kernel = parts[0].endswith("/kernel")
            is_transposed = is_kernel and not self._lies_as_IO
            value = put(np.ascontiguousarray(whole.T) if is_transposed else whole)
            value = value.astype(wide if name.endswith("/scale") else compute)
            self._weights[name] = value.T if is_kernel and self._lies_as_IO else value
            mx.eval(self._weights[name])
        num_heads = parameters["num_heads"]
        shape = (self._work.batch_size, num_heads, self._decoder.cache_length)
        for index in range(parameters["num_layers"]):
            for kind in ("keys", "values"):
                zeros = mx.zeros((*shape, parameters["width"] // num_heads), compute)
                self._cache[f"layer{index}/{kind}"] = zeros
        mx.eval(self._cache)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these prompts on the device, and what is forced, by request."""
        put = self._framework.put
        self._batches = [
            (put(batch["tokens"]), put(batch["forced"].T) if "forced" in batch else None)
            for batch in batches
        ]
        self._next = 0

    def prepare(self) -> Any:
        """Where a sequence begins, take its prompt; where it is forced, the token that is."""
        if not self._is_decode:
            return None
        index, request = divmod(self._next, self._per_batch)
        tokens_BP, forced_NB = self._batches[index]
        if request == 0:
            self._last = self._prefill(tokens_BP)
        if forced_NB is not None:
            self._last = self._last._replace(tokens_B=forced_NB[request])
        return self._last.tokens_B, self._cache

    def step(self) -> Any:
        """Enqueue the next request; the tokens that it answers.

        The cache is enqueued with it: MLX computes nothing that is not asked for.
        """
        index, request = divmod(self._next, self._per_batch)
        self._next = (self._next + 1) % (len(self._batches) * self._per_batch)
        if self._is_decode:
            self._last = self._decode(self._last.tokens_B, self._positions[request])
        else:
            self._last = self._prefill(self._batches[index][0])
        mx.async_eval(self._last, self._cache)  # type: ignore[no-untyped-call]  # in mlx's stubs
        return self._last.tokens_B

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._last.logits_BV)}

    def inspect(self) -> Effective:
        """What the tensors are, from a step that is recorded and never computed."""
        decoder, weights, cache = self._decoder, self._weights, dict(self._cache)
        tokens_BP, _ = self._batches[0]
        if self._is_decode:
            position = spec.prompt_length(self._work)
            logits_BV, _ = decoder.decode(weights, cache, tokens_BP[:, 0], position)
        else:
            logits_BV, _ = decoder.prefill(weights, cache, tokens_BP)
        graph = io.StringIO()
        mx.export_to_dot(graph, logits_BV)
        marks = (found for mark, found in ATTENTION_MARKS.items() if mark in graph.getvalue())
        x_BTD, window = decoder.embed(weights, tokens_BP), prompt_window(tokens_BP.shape[1])
        x_BTD = decoder.pass_layer("layer0", weights, cache, x_BTD, window)
        return Effective(
            parameters=dtype_name(weights["head"].dtype),
            activations=dtype_name(x_BTD.dtype),
            flop_per_step=None,  # MLX counts none
            attention=next(marks, "unknown"),
        )

    def artefact_bytes(self) -> None:
        """Nothing is exported."""

    def _compile(self) -> None:
        """Have what is timed traced once."""
        if self._is_decode:
            self._positions = [mx.array(position) for position in self._positions]
            self._decode = self._traced_once(self._recorded_masked_decode)
        else:
            self._prefill = self._traced_once(self._recorded_prefill)

    def _traced_once(self, function: Callable[..., Answer]) -> Callable[..., Answer]:
        state = [self._weights, self._cache]
        traced = mx.compile(function, inputs=state, outputs=[self._cache])
        return lambda *arguments: Answer(*traced(*arguments))

    def _recorded_prefill(self, tokens_BP: mx.array) -> Answer:
        return self._decoder.prefill(self._weights, self._cache, tokens_BP)

    def _recorded_decode(self, tokens_B: mx.array, position: int) -> Answer:
        return self._decoder.decode(self._weights, self._cache, tokens_B, position)

    def _recorded_masked_decode(self, tokens_B: mx.array, position: mx.array) -> Answer:
        return self._decoder.decode_masked(self._weights, self._cache, tokens_B, position)
