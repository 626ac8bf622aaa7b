"""Inference: a step is a request, answered and timed by itself."""
