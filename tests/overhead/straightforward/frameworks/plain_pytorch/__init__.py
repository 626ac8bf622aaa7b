"""PyTorch as it comes, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.contract.framework import Settings
from benchmarks.frameworks.pytorch import CAPABILITIES as PYTORCH

CAPABILITIES = dataclasses.replace(PYTORCH, name="plain_pytorch", holds_oracle=False)


def environment(settings: Settings) -> dict[str, str]:
    """Threads and private caches; no tuning."""
    threads = str(settings.num_threads)
    folder = Path(settings.cache_folder)
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }
