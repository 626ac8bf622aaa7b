"""The decoder's inference in MLX: prefill, and decode with a cache, lazy or compiled.

`eager` records each step and attends to the filled part of the cache; `compiled` is one graph for
all positions, which masks the rest. On a CPU weight matrices are IO in memory, because matmuls are
a third faster so.

Shapes: B batch, P positions of the prompt, N new tokens, T positions of a pass, S positions of the
cache, D width, H heads, K head dimension, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Callable, NamedTuple

import mlx.core as mx
import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.mlx.adapter import dtype_name
from workloads.transformer import inference_spec as spec
from workloads.transformer.mlx.network import (
    COMPOSED_ATTENTION,
    Decoder,
    Held,
    Layer,
    attention_of,
    held_arrays,
    joined,
)

IMPLEMENTS = {"transformer_infer"}

ATTENTION_MARKS = {"ScaledDotProductAttention": "mx.fast, fused", **COMPOSED_ATTENTION}
"""Operations that mark a kind of attention in a recorded step, with its description; the first that
is found counts."""


def build(problem: Problem, framework: Framework) -> DecoderInference:
    """Build the program of this case; it has no weights and no requests yet."""
    return DecoderInference(problem, framework)


Values = dict[str, mx.array]
"""Arrays by the name under which they are stored."""


class Answer(NamedTuple):
    """The output of a pass, without the cache."""

    logits_BV: mx.array
    """The logits after each sequence's last token, in float32 or wider."""
    tokens_B: mx.array
    """The argmax of the logits, int32."""


class Window(NamedTuple):
    """The positions of a pass's tokens, and the slots of the cache that they attend to."""

    start: int | mx.array
    """Position of the first token."""
    length: int
    seen: slice
    mask: str | mx.array | None = None
    """The mask: `causal`, an array that is true for visible slots, or None for all."""


class CachedDecoder(Decoder):
    """The network with weights and a cache, a dictionary to which it adds keys and values."""

    def __init__(self, problem: Problem) -> None:
        self.cache_length = spec.cache_length(problem.case.work)
        super().__init__(problem, num_positions=self.cache_length)

    def prefill(self, weights: Values, cache: Values, tokens_BP: mx.array) -> Answer:
        """The output for a prompt, whose keys and values are then in the cache."""
        return self._answer(weights, cache, tokens_BP, prompt_window(tokens_BP.shape[1]))

    def decode(self, weights: Values, cache: Values, tokens_B: mx.array, position: int) -> Answer:
        """The output for these tokens, which are at this position."""
        return self._answer(
            weights, cache, tokens_B[:, None], Window(position, 1, slice(position + 1))
        )

    def decode_masked(
        self, weights: Values, cache: Values, tokens_B: mx.array, position: mx.array
    ) -> Answer:
        """The same with the position on the device and the whole cache: one graph for all."""
        sees_1S = (mx.arange(self.cache_length) <= position)[None]
        window = Window(position, 1, slice(None), mask=sees_1S)
        return self._answer(weights, cache, tokens_B[:, None], window)

    def pass_cached(
        self, layer: Layer, weights: Values, cache: Values, x_BTD: mx.array, window: Window
    ) -> mx.array:
        """The layer's output, BTD."""
        attend = partial(self._attend, layer.name, cache, window)
        return self.pass_layer(layer, weights, x_BTD, attend)

    def _answer(
        self, weights: Values, cache: Values, tokens_BT: mx.array, window: Window
    ) -> Answer:
        x_BTD = self.embed(weights, tokens_BT)
        for layer in self.layers:
            x_BTD = self.pass_cached(layer, weights, cache, x_BTD, window)
        logits_BV = self.logits(weights, x_BTD[:, -1]).astype(self.numerics.wide)
        return Answer(logits_BV, logits_BV.argmax(-1).astype(mx.int32))

    def _attend(
        self,
        name: str,
        cache: Values,
        window: Window,
        query: mx.array,
        key: mx.array,
        value: mx.array,
    ) -> mx.array:
        """The attention of one layer's heads to the cache after adding this key and value."""
        query, key = (self.operations.rotate(x, window.start) for x in (query, key))
        start = mx.array(window.start).reshape(1)
        for kind, x_BHTK in (("keys", key), ("values", value)):
            kept = cache[f"{name}/{kind}"]
            cache[f"{name}/{kind}"] = mx.slice_update(kept, x_BHTK, start, (2,))
        keys, values = (cache[f"{name}/{kind}"][:, :, window.seen] for kind in ("keys", "values"))
        return self.operations.attend(query, keys, values, window.mask)


def prompt_window(length: int) -> Window:
    """The first positions, each of which attends to itself and those before it."""
    return Window(0, length, slice(length), mask="causal")


class DecoderInference(RequestProgram):
    """Weights, cache and prompts on the device, and the two phases; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        work = problem.case.work
        self._framework = framework
        self._problem = problem
        self._is_decode = spec.is_decode(work)
        self._per_batch = spec.per_batch(work)
        self._decoder = CachedDecoder(problem)
        self._held = dict(held_arrays(self._decoder.layers, rank=None))
        self._lies_as_IO = problem.case.place.device == "cpu"
        """Whether weight matrices are IO in memory."""
        first = spec.prompt_length(work)
        self._positions: list[Any] = list(range(first, first + self._per_batch))
        self._weights: Values = {}
        self._cache: Values = {}
        self._prefill: Callable[..., Answer] = self._recorded_prefill
        self._decode: Callable[..., Answer] = self._recorded_decode
        if problem.case.way.execution == "compiled":
            self._compile()
        self._batches: list[tuple[mx.array, mx.array | None]] = []
        self._next = 0
        self._last: Any = None
        """The last output."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and empty the cache.

        The dictionaries are kept, because compiled functions read and write them.
        """
        _, compute, wide, _ = self._decoder.numerics
        parameters, put = self._problem.parameters, self._framework.put
        for name, whole in joined(self._held, weights):
            is_turned = Held(name).is_turned
            is_transposed = is_turned and not self._lies_as_IO
            value = put(np.ascontiguousarray(whole.T) if is_transposed else whole)
            value = value.astype(wide if name.endswith("/scale") else compute)
            self._weights[name] = value.T if is_turned and self._lies_as_IO else value
            mx.eval(self._weights[name])
        num_heads = parameters["num_heads"]
        shape = (self._problem.case.work.batch_size, num_heads, self._decoder.cache_length)
        for layer in self._decoder.layers:
            for kind in ("keys", "values"):
                zeros = mx.zeros((*shape, parameters["width"] // num_heads), compute)
                self._cache[f"{layer.name}/{kind}"] = zeros
        mx.eval(self._cache)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these prompts to the device, and the forced tokens of each request."""
        put = self._framework.put
        self._batches = [
            (put(batch["tokens"]), put(batch["forced"].T) if "forced" in batch else None)
            for batch in batches
        ]
        self._next = 0

    def prepare(self) -> Any:
        """Run the prompt if a sequence begins, and set the next input token if it is forced."""
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
        """Enqueue the next request and return its output tokens.

        It enqueues the cache too: MLX computes only the arrays that it is asked for.
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
        """Dtypes and attention, from a step that is recorded and never computed."""
        decoder, weights, cache = self._decoder, self._weights, dict(self._cache)
        tokens_BP, _ = self._batches[0]
        if self._is_decode:
            position = spec.prompt_length(self._problem.case.work)
            logits_BV, _ = decoder.decode(weights, cache, tokens_BP[:, 0], position)
        else:
            logits_BV, _ = decoder.prefill(weights, cache, tokens_BP)
        x_BTD, window = decoder.embed(weights, tokens_BP), prompt_window(tokens_BP.shape[1])
        x_BTD = decoder.pass_cached(decoder.layers[0], weights, cache, x_BTD, window)
        return Effective(
            parameters=dtype_name(weights["head/kernel"].dtype),
            activations=dtype_name(x_BTD.dtype),
            flop_per_step=None,  # MLX counts none
            attention=attention_of([logits_BV], ATTENTION_MARKS),
        )

    def _compile(self) -> None:
        """Trace the timed function once."""
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
