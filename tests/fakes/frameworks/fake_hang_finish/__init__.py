from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_hang_finish")

__all__ = ["CAPABILITIES", "environment"]
