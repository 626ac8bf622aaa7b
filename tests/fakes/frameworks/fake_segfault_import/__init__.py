from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_segfault_import")

__all__ = ["CAPABILITIES", "environment"]
