from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_cheat_batch")

__all__ = ["CAPABILITIES", "environment"]
