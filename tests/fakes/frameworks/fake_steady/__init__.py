from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_steady")

__all__ = ["CAPABILITIES", "environment"]
