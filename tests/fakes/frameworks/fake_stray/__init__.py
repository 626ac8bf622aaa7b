from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_stray")

__all__ = ["CAPABILITIES", "environment"]
