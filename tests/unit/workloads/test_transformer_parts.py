"""Parts of the decoder that the proofs at tiny do not reach: they begin with larger arrays."""

from __future__ import annotations

import numpy as np
import pytest


def causal_attention(query, key, value):
    """In NumPy, BTHK."""
    scores = np.einsum("bthk,bshk->bhts", query, key) / np.sqrt(query.shape[-1])
    seen = np.tri(query.shape[1], dtype=bool)
    weights = np.where(seen, np.exp(scores), 0)
    return np.einsum("bhts,bshk->bthk", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.parametrize("max_queries", [7, 20, 64])
def test_jax_attends_in_blocks_as_in_one(max_queries):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    from workloads.transformer.jax.network import attend

    rng = np.random.default_rng(0)
    operands = rng.standard_normal((3, 2, 20, 2, 4)).astype(np.float32)
    with jax.default_device(jax.devices("cpu")[0]):
        mixed = attend(*operands, max_queries=max_queries)
    np.testing.assert_allclose(mixed, causal_attention(*operands), rtol=1e-4, atol=1e-5)


def test_tensorflow_pads_a_gradient_and_it_stays_the_same():
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    from workloads.transformer.tensorflow.network import multiply_padded

    rng = np.random.default_rng(0)
    x, weight, dy = (tf.constant(rng.standard_normal(s)) for s in ((6, 5), (5, 8), (6, 8)))
    found = []
    for multiply in (tf.matmul, multiply_padded):
        with tf.GradientTape() as tape:
            tape.watch([x, weight])
            y = multiply(x, weight)
        found.append([y, *tape.gradient(y, [x, weight], output_gradients=dy)])
    for right, own in zip(*found, strict=True):
        np.testing.assert_allclose(own, right, rtol=1e-12)


def test_tensorflow_masks_what_comes_later():
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    from workloads.transformer.tensorflow.network import causal_mask

    expected = np.triu(np.full((5, 5), -np.inf), 1)
    np.testing.assert_array_equal(causal_mask(5, tf.float64), expected)


def test_keras_on_torch_updates_few_variables_at_a_time(monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    from benchmarks.frameworks.keras_torch import adapter

    monkeypatch.setattr(adapter, "MAX_VALUES_TOGETHER", 10)
    parts = [(one.start, one.stop) for one in adapter._parts([4, 6, 1, 20, 3, 7])]
    assert parts == [(0, 2), (2, 3), (3, 4), (4, 6)]
