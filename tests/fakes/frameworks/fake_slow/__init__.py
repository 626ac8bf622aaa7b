from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_slow")

__all__ = ["CAPABILITIES", "environment"]
