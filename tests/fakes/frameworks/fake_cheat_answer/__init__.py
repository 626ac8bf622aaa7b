from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_cheat_answer")

__all__ = ["CAPABILITIES", "environment"]
