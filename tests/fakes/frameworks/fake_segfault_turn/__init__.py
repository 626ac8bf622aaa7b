from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_segfault_turn")

__all__ = ["CAPABILITIES", "environment"]
