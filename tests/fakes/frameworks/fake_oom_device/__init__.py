from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities("fake_oom_device")

__all__ = ["CAPABILITIES", "environment"]
