"""Checks that the framework can run with a launch's settings, and that its variables are set.

Standard library and the contract only.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contract.framework import Capabilities, Settings


def check(capabilities: Capabilities, settings: Settings) -> None:
    """ValueError if a setting is not among the capabilities: what was received and expected."""
    precisions = capabilities.precisions
    asked = (
        ("device", settings.device, tuple(precisions)),
        ("execution", settings.execution, capabilities.executions),
        ("precision", settings.precision, precisions.get(settings.device, ())),
        ("num_devices", settings.num_devices, range(1, capabilities.max_num_devices + 1)),
    )
    for name, value, expected in asked:
        if value not in expected:
            raise ValueError(
                f"{capabilities.name} on {settings.device}: received {name}={value},"
                f" expected one of {', '.join(str(one) for one in expected)}"
            )
    if settings.memory_fraction != 1.0 and settings.device not in capabilities.limits_memory_on:
        raise ValueError(
            f"{capabilities.name} on {settings.device}: received"
            f" memory_fraction={settings.memory_fraction}, expected 1.0"
            " (it cannot limit its memory on this device)"
        )


def check_environment(required: Mapping[str, str], actual: Mapping[str, str]) -> None:
    """ValueError if a variable lacks the value that the framework needs when it is imported."""
    for name, expected in required.items():
        if actual.get(name) != expected:
            raise ValueError(
                f"environment: received {name}={actual.get(name)}, expected {expected}"
            )
