"""A framework that shares a step's batch between two devices, on a clock of its own."""

import dataclasses

from fakes.capabilities import capabilities, environment

CAPABILITIES = dataclasses.replace(capabilities("fake_two"), max_num_devices=2)

__all__ = ["CAPABILITIES", "environment"]
