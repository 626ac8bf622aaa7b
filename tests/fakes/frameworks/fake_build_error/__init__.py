from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_build_error")

__all__ = ["CAPABILITIES", "environment"]
