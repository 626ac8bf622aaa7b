"""TensorFlow as it comes, for the plain code that the tuned implementation is compared with."""

from __future__ import annotations

import dataclasses

from benchmarks.contract.framework import Settings
from benchmarks.frameworks.tensorflow import CAPABILITIES as TENSORFLOW

CAPABILITIES = dataclasses.replace(TENSORFLOW, name="plain_tensorflow", holds_oracle=False)


def environment(settings: Settings) -> dict[str, str]:
    """Threads; no tuning."""
    return {"OMP_NUM_THREADS": str(settings.num_threads)}
