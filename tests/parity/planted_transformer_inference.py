"""Mistakes in a decoder's prefill and decode, to be planted with `planting`.

Each in the way that it comes about: a functional program does not keep the cache that it is handed
back, one in place writes to another slot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.parity.planted_programs import loaded_with, swap_gate_and_up
from tests.parity.planting import replace_in, replace_in_copy

IMPLEMENTATION = "workloads.transformer.{}.inference"
"""The module of a framework's program."""
NUM_MISSING = 4
"""Positions of a sequence for which a short cache or table has no room."""

CONSTANTS: Mapping[str, Mapping[str, float]] = {
    "norm_epsilon": {"rms_norm_epsilon": 1e-6},
    "near_norm_epsilon": {"rms_norm_epsilon": 1.1e-5},
    "rope_base": {"rotary_base": 10001.0},
}


def kept_prompt(program: Any) -> Any:
    """Take the first prompt of each feeding alone: what follows goes on with its cache."""
    feed, prepare, state = program.feed, program.prepare, {"taken": False}

    def feed_anew(batches: Any) -> None:
        state["taken"] = False
        feed(batches)

    def prepare_once() -> Any:
        if state["taken"] and program._next % program._per_batch == 0:
            first, batches = program._batches[0], program._batches
            index = program._next // program._per_batch
            program._batches = [*batches]
            program._batches[index] = (first[0], batches[index][1])
            found = prepare()
            program._batches = batches
            return found
        state["taken"] = True
        return prepare()

    program.feed, program.prepare = feed_anew, prepare_once
    return program


def stale_token(program: Any) -> Any:
    """Answer rightly, and go on with what was taken before: forced sequences do not show it."""
    step = program.step

    def step_with_the_same() -> Any:
        before, tokens_B = _taken(program), step()
        answers = np.array(tokens_B)
        _go_on_with(program, before)
        return _like(tokens_B, answers)

    program.step = step_with_the_same
    return program


def stale_argmax(program: Any) -> Any:
    """Hand out the tokens of the step before in the last quarter of a sequence."""
    step, state = program.step, {"before": None}

    def step_behind() -> Any:
        is_late = program._next % program._per_batch >= 3 * program._per_batch // 4
        tokens_B = step()
        before, state["before"] = state["before"], np.array(tokens_B)
        return _like(tokens_B, before) if is_late else tokens_B

    program.step = step_behind
    return program


def second_best(program: Any) -> Any:
    """Where nothing is forced, answer the second-best token, and go on with it."""
    feed, step, state = program.feed, program.step, {"is_forced": False}

    def feed_and_see(batches: Any) -> None:
        state["is_forced"] = "forced" in batches[0]
        feed(batches)

    def step_to_the_second() -> Any:
        tokens_B = step()
        if state["is_forced"]:
            return tokens_B
        second_B = np.argsort(program.read()["logits"], axis=-1)[:, -2].astype(np.int32)
        _go_on_with(program, second_B)
        return _like(tokens_B, second_B)

    program.feed, program.step = feed_and_see, step_to_the_second
    return program


def _taken(program: Any) -> np.ndarray:
    """A copy of the tokens with which the program goes on."""
    own = getattr(program, "_decoder", None)
    found = own.tokens_B if hasattr(own, "tokens_B") else program._state.tokens_B
    return np.array(found)


def _go_on_with(program: Any, tokens_B: np.ndarray) -> None:
    own = getattr(program, "_decoder", None)
    if hasattr(own, "tokens_B"):
        import torch

        with torch.inference_mode():
            own.tokens_B.copy_(torch.from_numpy(tokens_B))
        return
    state = program._state
    program._state = state._replace(tokens_B=_like(state.tokens_B, tokens_B))


def _like(tokens_B: Any, values_B: np.ndarray) -> Any:
    """These values as an array of the framework that this one is of."""
    if hasattr(tokens_B, "new_tensor"):
        return tokens_B.new_tensor(values_B)
    import jax.numpy as jnp

    return jnp.asarray(values_B, tokens_B.dtype)


WRAPPERS: Mapping[str, Callable[[Any], Any]] = {
    "kept_prompt": kept_prompt,
    "stale_token": stale_token,
    "stale_argmax": stale_argmax,
    "second_best": second_best,
    "gate_swapped": lambda program: loaded_with(program, swap_gate_and_up),
}
MATHEMATICS: Mapping[str, Callable[[], Mapping[str, Any]]] = {}


def pytorch_rope_offset(implementation: Any) -> None:
    """Rotate what is decoded by one position too far."""
    _shift_in_pytorch(implementation, lambda position: slice(position + 1, position + 2))


def pytorch_rope_at_zero(implementation: Any) -> None:
    """Rotate what is decoded as if it were the first."""
    _shift_in_pytorch(implementation, lambda position: slice(1))


def _shift_in_pytorch(implementation: Any, rotated_as: Callable[[int], slice]) -> None:
    own, own_rotation = implementation.Decoder._window, implementation.Decoder._rotation

    def window(self: Any, position: slice, *, seen: slice) -> Any:
        if position.start is None:  # the prompt
            return own(self, position, seen=seen)
        rotated = own(self, rotated_as(position.start), seen=seen)
        return rotated._replace(own=position)

    def longer(self: Any, length: int, base: float) -> Any:
        return own_rotation(self, length + 1, base)

    replace_in(implementation.Decoder, _window=window, _rotation=longer)


def pytorch_stale_cache(implementation: Any) -> None:
    """Write what decode computes to a slot that nothing sees."""
    own, own_length = implementation.Decoder._window, implementation.spec.cache_length

    def window(self: Any, position: slice, *, seen: slice) -> Any:
        found = own(self, position, seen=seen)
        is_prompt = position.start is None
        return found if is_prompt else found._replace(own=slice(-1, None))

    replace_in(implementation.Decoder, _window=window)
    replace_in_copy(implementation, "spec", cache_length=lambda work: own_length(work) + 1)


def pytorch_unmasked_cache(implementation: Any) -> None:
    """Attend to all of the cache."""

    def decode(self: Any, position: int) -> Any:
        own = slice(position, position + 1)
        return self._answer(self.tokens_B, self._window(own, seen=slice(None)))

    replace_in(implementation.Decoder, decode=decode)


def pytorch_no_causal_mask(implementation: Any) -> None:
    """Let each token of the prompt see all of it."""
    own = implementation.Decoder.prompt_window
    replace_in(
        implementation.Decoder,
        prompt_window=lambda self, length: own(self, length)._replace(is_causal=False),
    )


def jax_rope_offset(implementation: Any) -> None:
    """Rotate what is decoded by one position too far."""
    _shift_in_jax(implementation, lambda position: position + 1)


def jax_rope_at_zero(implementation: Any) -> None:
    """Rotate what is decoded as if it were the first."""
    _shift_in_jax(implementation, lambda position: 0 * position)


def _shift_in_jax(implementation: Any, rotated_as: Callable[[Any], Any]) -> None:
    own = implementation.Decoder._rotated

    def rotated(self: Any, x: Any, window: Any) -> Any:
        if window.length == 1:
            self = dataclasses.replace(self, cache_length=self.cache_length + 1)
            window = window._replace(start=rotated_as(window.start))
        return own(self, x, window)

    replace_in(implementation.Decoder, _rotated=rotated)


def jax_stale_cache(implementation: Any) -> None:
    """Answer with the caches as they were before decode."""
    own = implementation.Decoder.decode

    def decode(self: Any, weights: Any, caches: Any, tokens: Any, position: Any) -> Any:
        return own(self, weights, caches, tokens, position)._replace(caches=caches)

    replace_in(implementation.Decoder, decode=decode)


def jax_unmasked_cache(implementation: Any) -> None:
    """Attend to all of the cache."""
    own = implementation.attend_by_products

    def attend(query: Any, keys: Any, values: Any, sees: Any) -> Any:
        return own(query, keys, values, sees | (query.shape[1] == 1))

    replace_in(implementation, attend_by_products=attend)


def jax_no_causal_mask(implementation: Any) -> None:
    """Let each token of the prompt see all of it."""
    own = implementation.attend_by_products

    def attend(query: Any, keys: Any, values: Any, sees: Any) -> Any:
        return own(query, keys, values, sees | (query.shape[1] > 1))

    replace_in(implementation, attend_by_products=attend)


def pytorch_scores_by_dimension(implementation: Any) -> None:
    """Divide attention scores by the head's dimension, not by its root."""
    own = implementation.F.scaled_dot_product_attention

    def attend(query: Any, key: Any, value: Any, **named: Any) -> Any:
        return own(query, key, value, **named, scale=1 / query.shape[-1])

    replace_in_copy(implementation, "F", scaled_dot_product_attention=attend)


def pytorch_forgotten_first(implementation: Any) -> None:
    """Let decoded tokens not see the first token."""

    def decode(self: Any, position: int) -> Any:
        window = self._window(slice(position, position + 1), seen=slice(1, position + 1))
        return self._answer(self.tokens_B, window)

    replace_in(implementation.Decoder, decode=decode)


def pytorch_cache_truncated(implementation: Any) -> None:
    """Let the cache be too short, and roll it over: the oldest slots are lost."""

    def decode(self: Any, position: int) -> Any:
        first = max(0, position + 1 - (len(self._slots_S) - NUM_MISSING))
        window = self._window(slice(position, position + 1), seen=slice(first, position + 1))
        return self._answer(self.tokens_B, window)

    replace_in(implementation.Decoder, decode=decode)


def pytorch_rope_table_short(implementation: Any) -> None:
    """Rotate the last positions by the last row of a table that is too short."""
    import torch

    own = implementation.Decoder._rotation

    def rotation(self: Any, length: int, base: float) -> Any:
        for table_SK in own(self, length - NUM_MISSING, base):
            yield torch.cat([table_SK, table_SK[-1:].expand(NUM_MISSING, -1)])

    replace_in(implementation.Decoder, _rotation=rotation)


def pytorch_cache_in_bf16(implementation: Any) -> None:
    """Keep keys and values in bfloat16."""
    own = implementation.F.scaled_dot_product_attention

    def attend(query: Any, key: Any, value: Any, **named: Any) -> Any:
        key, value = (one.bfloat16().to(one.dtype) for one in (key, value))
        return own(query, key, value, **named)

    replace_in_copy(implementation, "F", scaled_dot_product_attention=attend)


def jax_scores_by_dimension(implementation: Any) -> None:
    """Divide attention scores by the head's dimension, not by its root."""
    own = implementation.attend_by_products

    def attend(query: Any, keys: Any, values: Any, sees: Any) -> Any:
        return own(query * query.shape[-1] ** -0.5, keys, values, sees)

    replace_in(implementation, attend_by_products=attend)


def jax_forgotten_first(implementation: Any) -> None:
    """Let decoded tokens not see the first token."""
    own = implementation.attend_by_products

    def attend(query: Any, keys: Any, values: Any, sees: Any) -> Any:
        return own(query, keys, values, sees if query.shape[1] > 1 else sees.at[:, 0].set(False))

    replace_in(implementation, attend_by_products=attend)


def jax_cache_truncated(implementation: Any) -> None:
    """Let the cache be too short: JAX writes what is beyond it to the last slot."""
    own_length, own_rotation = implementation.spec.cache_length, implementation.rotation_of
    replace_in_copy(
        implementation, "spec", cache_length=lambda work: own_length(work) - NUM_MISSING
    )
    replace_in(
        implementation,
        rotation_of=lambda length, **named: own_rotation(length + NUM_MISSING, **named),
    )


def jax_rope_table_short(implementation: Any) -> None:
    """Let RoPE's table be too short: JAX reads its last row for what is beyond it."""
    own = implementation.rotation_of
    replace_in(
        implementation, rotation_of=lambda length, **named: own(length - NUM_MISSING, **named)
    )


def jax_cache_in_bf16(implementation: Any) -> None:
    """Keep keys and values in bfloat16."""
    import jax.numpy as jnp

    own = implementation.attend_by_products

    def attend(query: Any, keys: Any, values: Any, sees: Any) -> Any:
        keys, values = (one.astype(jnp.bfloat16).astype(one.dtype) for one in (keys, values))
        return own(query, keys, values, sees)

    replace_in(implementation, attend_by_products=attend)
