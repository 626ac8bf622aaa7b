"""A framework whose tuned recipe makes other steps than its idiomatic one, and does not say so."""

from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_mistuned")

__all__ = ["CAPABILITIES", "environment"]
