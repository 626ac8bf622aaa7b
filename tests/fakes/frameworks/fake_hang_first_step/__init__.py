from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_hang_first_step")

__all__ = ["CAPABILITIES", "environment"]
