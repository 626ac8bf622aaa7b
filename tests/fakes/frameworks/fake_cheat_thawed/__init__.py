from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_cheat_thawed")

__all__ = ["CAPABILITIES", "environment"]
