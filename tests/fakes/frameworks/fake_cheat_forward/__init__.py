from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_cheat_forward")

__all__ = ["CAPABILITIES", "environment"]
