from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_stale")

__all__ = ["CAPABILITIES", "environment"]
