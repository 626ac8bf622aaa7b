from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_hang_build")

__all__ = ["CAPABILITIES", "environment"]
