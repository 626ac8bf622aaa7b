from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_unfrozen")

__all__ = ["CAPABILITIES", "environment"]
