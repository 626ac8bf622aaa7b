from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_nan_later")

__all__ = ["CAPABILITIES", "environment"]
