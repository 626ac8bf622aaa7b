from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_lying_fence")

__all__ = ["CAPABILITIES", "environment"]
