from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_oom_host")

__all__ = ["CAPABILITIES", "environment"]
