from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_double")

__all__ = ["CAPABILITIES", "environment"]
