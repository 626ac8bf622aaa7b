"""Mistakes in a decoder's prefill and decode, to be planted with `planting`.

Each in the way that it comes about: a functional program does not keep the cache that it is handed
back, one in place writes to another slot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tests.parity.planting import replace_in, replace_in_copy

CONSTANTS: Mapping[str, Mapping[str, float]] = {"norm_epsilon": {"rms_norm_epsilon": 1e-6}}


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
        if hasattr(program, "_decoder") and hasattr(program._decoder, "tokens_B"):
            import torch

            with torch.inference_mode():
                before, tokens_B = program._decoder.tokens_B.clone(), step().clone()
                program._decoder.tokens_B.copy_(before)
                return tokens_B
        # Copied, because a program may hand its state over to the next call.
        before, tokens_B = program._state.tokens_B.copy(), step()
        program._state = program._state._replace(tokens_B=before)
        return tokens_B

    program.step = step_with_the_same
    return program


WRAPPERS: Mapping[str, Callable[[Any], Any]] = {
    "kept_prompt": kept_prompt,
    "stale_token": stale_token,
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
