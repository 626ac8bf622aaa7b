"""Inference: a step is one request, which is timed by itself."""
