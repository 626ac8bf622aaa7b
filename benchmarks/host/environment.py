"""The environment of a worker or a probe: variables from an allow-list, never all of ours.

This keeps tokens out of benchmark code and its logs, and a user's settings out of the measurement.
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
"""Variables that pass. None changes speed or precision, as NVIDIA_TF32_OVERRIDE would."""
_ALLOWED_PREFIXES = ("TPU_",)
_SECRET_PARTS = ("CREDENTIAL", "KEY", "PASSWORD", "SECRET", "TOKEN")
"""Parts of names that never pass, even with an allowed prefix, such as TPU_API_KEY."""


def allowed_environment(extra: Mapping[str, str], *, private_folder: Path) -> dict[str, str]:
    """The complete environment of a child process; variables of `extra` override all others.

    Home, temporary files and caches lie in private_folder unless `extra` says otherwise, so that
    files which libraries leave behind are removed with it. The folders are created.
    """
    private = {
        "HOME": str(private_folder.absolute() / "home"),
        "TMPDIR": str(private_folder.absolute() / "tmp"),
        "XDG_CACHE_HOME": str(private_folder.absolute() / "cache"),
    }
    named = {"LANG": "C.UTF-8", "USER": "dyno", "LOGNAME": "dyno"}
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # the numbering of nvidia-smi and NVML
    environment = {**order, **inherited_environment(), **named, **private, **extra}
    for name in private:
        Path(environment[name]).mkdir(parents=True, exist_ok=True)
    return environment


def inherited_environment() -> dict[str, str]:
    """The variables that a child inherits from this process."""
    return {name: value for name, value in os.environ.items() if _is_allowed(name)}


def _is_allowed(name: str) -> bool:
    if any(part in name.upper() for part in _SECRET_PARTS):
        return False
    return name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)
