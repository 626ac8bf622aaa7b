from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_hang_import")

__all__ = ["CAPABILITIES", "environment"]
