from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_flood")

__all__ = ["CAPABILITIES", "environment"]
