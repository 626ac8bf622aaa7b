from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_exit")

__all__ = ["CAPABILITIES", "environment"]
