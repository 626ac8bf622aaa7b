from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_hang_turn")

__all__ = ["CAPABILITIES", "environment"]
