from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_astray")

__all__ = ["CAPABILITIES", "environment"]
