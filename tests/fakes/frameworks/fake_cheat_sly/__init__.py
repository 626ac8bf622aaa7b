from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_cheat_sly")

__all__ = ["CAPABILITIES", "environment"]
