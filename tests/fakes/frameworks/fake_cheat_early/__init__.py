from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_cheat_early")

__all__ = ["CAPABILITIES", "environment"]
