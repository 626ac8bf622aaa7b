from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_cheat_watched")

__all__ = ["CAPABILITIES", "environment"]
