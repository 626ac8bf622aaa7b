from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_hang_load")

__all__ = ["CAPABILITIES", "environment"]
