from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_nan_batch")

__all__ = ["CAPABILITIES", "environment"]
