"""The decoder's inference in JAX: one compiled program for prompts, one for tokens.

Tuned: projections of one input are one matmul, and prompts use cuDNN's attention if possible. The
cache is donated, and has the shape that attention's matmuls take: with another shape XLA copies it
four times at each step (jaxlib 0.10.2, on the CPU).

Shapes: B batch, P positions of the prompt, T positions of a pass, S positions of the cache, R rows:
B * T, D width, H heads, N heads of all sequences: B * H, K head dimension, F width of the MLP,
V vocabulary, I inputs and O outputs of a projection. Kernels are IO.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.jax.adapter import count_flop
from workloads.transformer import inference_spec as spec
from workloads.transformer import network
from workloads.transformer.jax.network import (
    Numerics,
    Rotation,
    attend_by_cudnn,
    normalised,
    numerics_of,
    rotate,
    rotation_of,
)

IMPLEMENTS = {"transformer_infer"}


def build(problem: Problem, framework: Framework) -> DecoderInference:
    """Build the program of this case; it has no weights and no requests yet."""
    return DecoderInference(problem, framework)


Weights = Mapping[str, jax.Array]


class Cache(NamedTuple):
    """One layer's keys and values of the positions so far."""

    keys_NSK: jax.Array
    values_NSK: jax.Array


class Passed(NamedTuple):
    """A layer's output and its updated cache."""

    x_RD: jax.Array
    cache: Cache


class Answer(NamedTuple):
    """The output of the whole network and its updated caches."""

    caches: list[Cache]
    logits_BV: jax.Array
    """The logits after each sequence's last token, in float32 or wider."""
    tokens_B: jax.Array
    """The argmax of the logits, int32."""


class Window(NamedTuple):
    """The positions of a pass's tokens, and their attention."""

    start: int | jax.Array
    """Position of the first token."""
    length: int
    """Number of positions."""
    attend: Callable[[jax.Array, jax.Array, jax.Array, Cache], jax.Array]
    """Maps (query, key, value BTHK, the cache that includes them) to attention's output BTHK."""


@dataclass(frozen=True)
class Decoder:
    """The network without weights: pure functions, to be compiled."""

    parameters: Mapping[str, int]
    constants: Mapping[str, float]
    numerics: Numerics
    held: Any
    """Dtype of weights, of the cache and of matmuls' operands. For bf16 on a CPU it is float32, in
    which XLA multiplies there: otherwise XLA would widen all of them at each step, which took seven
    times as long."""
    cache_length: int
    has_cudnn: bool
    """Whether prompts use cuDNN's flash attention, which takes operands of 16 bits only."""

    def prefill(self, weights: Weights, caches: list[Cache], tokens_BP: jax.Array) -> Answer:
        """The output for a prompt, whose keys and values are then in the caches."""
        return self._answer(weights, caches, tokens_BP, self.prompt_window(tokens_BP.shape[1]))

    def decode(
        self, weights: Weights, caches: list[Cache], tokens_B: jax.Array, position: jax.Array
    ) -> Answer:
        """The output for these tokens, which are at this position."""
        sees_1S = jnp.arange(self.cache_length)[None] <= position

        def attend(query: jax.Array, key: jax.Array, value: jax.Array, cache: Cache) -> jax.Array:
            del key, value  # the cache has them
            mixed_N1K = attend_by_products(heads_first(query), *cache, sees_1S)
            return mixed_N1K.reshape(query.shape)

        return self._answer(weights, caches, tokens_B[:, None], Window(position, 1, attend))

    def prompt_window(self, length: int) -> Window:
        """The first positions, each of which attends to itself and those before it."""

        def attend(query: jax.Array, key: jax.Array, value: jax.Array, cache: Cache) -> jax.Array:
            del cache
            if self.has_cudnn:
                return attend_by_cudnn(query, key, value)
            sees_TT = jnp.tri(length, dtype=bool)
            query_NTK, key_NTK, value_NTK = map(heads_first, (query, key, value))
            mixed_NTK = attend_by_products(query_NTK, key_NTK, value_NTK, sees_TT)
            return mixed_NTK.reshape(len(query), -1, *mixed_NTK.shape[1:]).swapaxes(1, 2)

        return Window(0, length, attend)

    def embed(self, weights: Weights, tokens_BT: jax.Array) -> jax.Array:
        """The tokens' rows of the table, RD."""
        return weights["embedding/table"][tokens_BT.reshape(-1)].astype(self.numerics.compute)

    def pass_layer(
        self, name: str, weights: Weights, x_RD: jax.Array, cache: Cache, window: Window
    ) -> Passed:
        """The output and the updated cache of the layer of this name."""
        project = partial(self._project, weights)
        y_RD = self._normalised(x_RD, weights[f"{name}/attention_norm/scale"])
        parts_RO = project(f"{name}/query_key_value", y_RD)
        mixed_RD, cache = self._attention(parts_RO, cache, window)
        x_RD = x_RD + project(f"{name}/output", mixed_RD)
        y_RD = self._normalised(x_RD, weights[f"{name}/mlp_norm/scale"])
        gate_RF, up_RF = jnp.split(project(f"{name}/gate_up", y_RD), 2, axis=-1)
        hidden_RF = jax.nn.silu(gate_RF) * up_RF  # Shazeer (2020), SwiGLU
        return Passed(x_RD + project(f"{name}/down", hidden_RF), cache)

    def _answer(
        self, weights: Weights, caches: list[Cache], tokens_BT: jax.Array, window: Window
    ) -> Answer:
        x_RD, updated = self.embed(weights, tokens_BT), []
        for index, cache in enumerate(caches):
            x_RD, cache = self.pass_layer(f"layer{index}", weights, x_RD, cache, window)
            updated.append(cache)
        x_BD = x_RD.reshape(*tokens_BT.shape, -1)[:, -1]
        y_BD = self._normalised(x_BD, weights["final_norm/scale"])
        logits_BV = self._project(weights, "head", y_BD).astype(self.numerics.wide)
        return Answer(updated, logits_BV, logits_BV.argmax(-1).astype(jnp.int32))

    def _attention(self, parts_RO: jax.Array, cache: Cache, window: Window) -> Passed:
        """The heads' attention from query, key and value side by side, RD."""
        heads = (-1, window.length, 3, self.parameters["num_heads"])
        parts_BT3HK = parts_RO.reshape(*heads, parts_RO.shape[1] // (3 * heads[-1]))
        query, key = (self._rotated(parts_BT3HK[:, :, part], window) for part in (0, 1))
        value = parts_BT3HK[:, :, 2].astype(self.held)
        update = jax.lax.dynamic_update_slice_in_dim
        kept = (heads_first(x) for x in (key, value))
        cache = Cache(*(update(old, one, window.start, axis=1) for old, one in zip(cache, kept)))
        mixed_BTHK = window.attend(query, key, value, cache).astype(self.numerics.compute)
        return Passed(mixed_BTHK.reshape(len(parts_RO), -1), cache)

    def _rotated(self, x_BTHK: jax.Array, window: Window) -> jax.Array:
        """RoPE at the window's positions."""
        tables = rotation_of(
            self.cache_length,
            dimension=x_BTHK.shape[-1],
            base=self.constants["rotary_base"],
            wide=self.numerics.wide,
        )
        rows = (
            jax.lax.dynamic_slice_in_dim(table_S1K, window.start, window.length)
            for table_S1K in tables
        )
        return rotate(x_BTHK, Rotation(*rows)).astype(self.held)

    def _normalised(self, x_RD: jax.Array, scale_D: jax.Array) -> jax.Array:
        epsilon = self.constants["rms_norm_epsilon"]
        return normalised(x_RD, scale_D, epsilon=epsilon, wide=self.numerics.wide)

    def _project(self, weights: Weights, name: str, x_RI: jax.Array) -> jax.Array:
        return (x_RI.astype(self.held) @ weights[name]).astype(self.numerics.compute)


def heads_first(x_BTHK: jax.Array) -> jax.Array:
    """The heads of all sequences, NTK."""
    return x_BTHK.swapaxes(1, 2).reshape(-1, x_BTHK.shape[1], x_BTHK.shape[3])


def attend_by_products(
    query_NTK: jax.Array, keys_NSK: jax.Array, values_NSK: jax.Array, sees_TS: jax.Array
) -> jax.Array:
    """Attention under this mask, NTK, with the softmax in float32 or wider."""
    wide = jnp.promote_types(query_NTK.dtype, jnp.float32)
    over_K, over_S = (((2,), (2,)), ((0,), (0,))), (((2,), (1,)), ((0,), (0,)))
    scores_NTS = jax.lax.dot_general(query_NTK, keys_NSK, over_K, preferred_element_type=wide)
    scores_NTS = jnp.where(sees_TS, scores_NTS * query_NTK.shape[-1] ** -0.5, -jnp.inf)
    attention_NTS = jax.nn.softmax(scores_NTS).astype(query_NTK.dtype)
    return jax.lax.dot_general(attention_NTS, values_NSK, over_S)


def groups_of(parameters: Mapping[str, int]) -> Iterator[tuple[str, list[str]]]:
    """The name of each stored array, with the canonical arrays that are side by side in it."""
    yield "embedding/table", ["embedding/table"]
    yield "head", ["head/kernel"]
    yield "final_norm/scale", ["final_norm/scale"]
    for index in range(parameters["num_layers"]):
        name = f"layer{index}"
        yield from ((f"{name}/{norm}/scale", [f"{name}/{norm}/scale"]) for norm in NORMS)
        for group, parts in network.layer_projections(parameters, index)._asdict().items():
            yield f"{name}/{group}", [f"{part.name}/kernel" for part in parts]


NORMS = ("attention_norm", "mlp_norm")


class DecoderInference(RequestProgram):
    """Weights, caches and prompts on the device, and compiled programs; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        case, work = problem.case, problem.case.work
        self._framework = framework
        self._problem = problem
        self._is_decode = spec.is_decode(work)
        self._per_batch = spec.per_batch(work)
        numerics = numerics_of(case.way.precision)
        held = numerics.wide if case.place.device == "cpu" else numerics.compute
        self._decoder = Decoder(
            problem.parameters,
            problem.hyperparameters,
            numerics,
            held,
            spec.cache_length(work),
            has_cudnn=case.place.device == "cuda" and held == jnp.bfloat16,
        )
        self._prefill = jax.jit(self._decoder.prefill, donate_argnums=1)
        self._decode = jax.jit(self._decoder.decode, donate_argnums=1)
        self._weights: dict[str, Any] = {}
        self._positions: list[Any] = []
        self._batches: list[tuple[Any, list[Any]]] = []
        self._next = 0
        self._state: Any = None
        """The last output, with the caches."""

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and empty the caches."""
        put, held, wide = self._framework.put, self._decoder.held, self._decoder.numerics.wide
        for name, parts in groups_of(self._problem.parameters):
            dtype = wide if name.endswith("/scale") else held
            whole = np.concatenate([weights[part] for part in parts], axis=-1)
            self._weights[name] = put(whole.astype(dtype))
        work, parameters = self._problem.case.work, self._problem.parameters
        num_heads = work.batch_size * parameters["num_heads"]
        dimension = parameters["width"] // parameters["num_heads"]
        empty = np.zeros((num_heads, spec.cache_length(work), dimension), held)
        caches = [Cache(put(empty), put(empty)) for _ in range(parameters["num_layers"])]
        self._state = Answer(caches, None, put(np.zeros(work.batch_size, np.int32)))
        first = spec.prompt_length(work)
        self._positions = [put(np.array(first + one, np.int32)) for one in range(self._per_batch)]

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these prompts to the device, and the forced tokens of each request."""
        put = self._framework.put
        self._batches = [
            (
                put(batch["tokens"]),
                [put(one) for one in batch["forced"].T] if "forced" in batch else [],
            )
            for batch in batches
        ]
        self._next = 0

    def prepare(self) -> Any:
        """Run the prompt if a sequence begins, and set the next input token if it is forced."""
        if not self._is_decode:
            return None
        index, request = divmod(self._next, self._per_batch)
        tokens_BP, forced = self._batches[index]
        if request == 0:
            self._state = self._prefill(self._weights, self._state.caches, tokens_BP)
        if forced:
            self._state = self._state._replace(tokens_B=forced[request])
        return self._state

    def step(self) -> Any:
        """Enqueue the next request and return its output tokens."""
        index, request = divmod(self._next, self._per_batch)
        self._next = (self._next + 1) % (len(self._batches) * self._per_batch)
        weights, caches = self._weights, self._state.caches
        if self._is_decode:
            position = self._positions[request]
            self._state = self._decode(weights, caches, self._state.tokens_B, position)
        else:
            self._state = self._prefill(weights, caches, self._batches[index][0])
        return self._state.tokens_B

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._state.logits_BV)}

    def inspect(self) -> Effective:
        """Dtypes, attention and FLOP of the program, from its trace."""
        decoder, weights, (caches, _, tokens_B) = self._decoder, self._weights, self._state
        tokens_BP, _ = self._batches[0]
        window = decoder.prompt_window(tokens_BP.shape[1])
        layer = jax.eval_shape(
            lambda: decoder.pass_layer(
                "layer0", weights, decoder.embed(weights, tokens_BP), caches[0], window
            )
        )
        program: Any = decoder.decode if self._is_decode else decoder.prefill
        arguments = (tokens_B, self._positions[0]) if self._is_decode else (tokens_BP,)
        text = jax.jit(program).lower(weights, caches, *arguments).as_text()
        return Effective(
            parameters=str(weights["head"].dtype),
            activations=str(layer.x_RD.dtype),
            flop_per_step=count_flop(program, weights, caches, *arguments),
            attention="cudnn flash" if "__cudnn$fmha" in text else "xla products",
        )
