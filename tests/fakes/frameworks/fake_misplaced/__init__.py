from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_misplaced")

__all__ = ["CAPABILITIES", "environment"]
