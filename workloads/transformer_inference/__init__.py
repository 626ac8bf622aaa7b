"""A causal decoder answering requests: prefill, and decoding with a KV cache."""
