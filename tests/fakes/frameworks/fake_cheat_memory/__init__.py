from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_cheat_memory")

__all__ = ["CAPABILITIES", "environment"]
