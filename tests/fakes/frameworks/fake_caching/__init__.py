from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_caching")

__all__ = ["CAPABILITIES", "environment"]
