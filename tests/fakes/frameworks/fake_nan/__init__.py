from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_nan")

__all__ = ["CAPABILITIES", "environment"]
