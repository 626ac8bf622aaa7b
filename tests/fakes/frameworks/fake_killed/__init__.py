from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_killed")

__all__ = ["CAPABILITIES", "environment"]
