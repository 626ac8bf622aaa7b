from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_twin")

__all__ = ["CAPABILITIES", "environment"]
