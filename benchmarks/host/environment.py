"""The environment that a worker or a probe is started with: an allow-list, never ours as it is.

Tokens stay out of benchmark code and its logs, and a user's own settings out of the measurement.
Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_ALLOWED = frozenset(
    {
        "CC",
        "CUDA_DEVICE_ORDER",
        "CUDA_HOME",
        "CUDA_VISIBLE_DEVICES",
        "CXX",
        "DYLD_LIBRARY_PATH",
        "LD_LIBRARY_PATH",
        "NVIDIA_DRIVER_CAPABILITIES",
        "NVIDIA_VISIBLE_DEVICES",
        "PATH",
    }
)
"""None that changes speed or precision behind the settings, as NVIDIA_TF32_OVERRIDE does."""
_ALLOWED_PREFIXES = ("TPU_",)
_SECRET_PARTS = ("CREDENTIAL", "KEY", "PASSWORD", "SECRET", "TOKEN")
"""What a variable with an allowed prefix may still hold, such as TPU_API_KEY."""


def allowed_environment(extra: Mapping[str, str], *, private_folder: Path) -> dict[str, str]:
    """The whole environment of a child process; `extra` is added as it is and wins.

    Home, temporary files and caches lie in private_folder unless `extra` says otherwise: what
    libraries leave behind goes away with it. Their folders are made.
    """
    private = {
        "HOME": str(private_folder.absolute() / "home"),
        "TMPDIR": str(private_folder.absolute() / "tmp"),
        "XDG_CACHE_HOME": str(private_folder.absolute() / "cache"),
    }
    named = {"LANG": "C.UTF-8", "USER": "dyno", "LOGNAME": "dyno"}
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # the numbers that nvidia-smi and NVML give
    environment = {**order, **inherited_environment(), **named, **private, **extra}
    for name in private:
        Path(environment[name]).mkdir(parents=True, exist_ok=True)
    return environment


def inherited_environment() -> dict[str, str]:
    """The variables that a child takes over from this process."""
    return {name: value for name, value in os.environ.items() if _is_allowed(name)}


def _is_allowed(name: str) -> bool:
    if any(part in name.upper() for part in _SECRET_PARTS):
        return False
    return name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)
